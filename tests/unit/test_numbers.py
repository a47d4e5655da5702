"""Numbers are written as people write them."""

import pytest

from nudge import numbers


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (numbers.count(19_961_856), "20.0 M"),
        (numbers.count(19_961_856, "ko"), "1,996만"),
        (numbers.count(124_439_808, "ko"), "1.244억"),
        (numbers.count(1152), "1.15 k"),
        (numbers.count(384), "384"),
        (numbers.percent(0.31234), "31.2%"),
        (numbers.percent(0.00031), "0.031%"),
        (numbers.percent(1e-9), "< 0.0001%"),
        (numbers.percent(0.0), "0%"),
        (numbers.percent(1.0), "100%"),
        (numbers.percent(0.9996), "99.96%"),
        (numbers.percent(0.99949), "99.9%"),
        (numbers.percent(float("nan")), "NaN"),
        (numbers.fixed(-0.314, 2), "−0.31"),
        (numbers.fixed(0.314, 2, sign=True), "+0.31"),
        (numbers.fixed(-0.001, 2, sign=True), "0.00"),
        (numbers.fixed(float("inf")), "∞"),
        (numbers.significant(0.0123456), "0.0123"),
        (numbers.significant(9.996), "10.0"),
        (numbers.significant(1234.5), "1,234"),
        (numbers.significant(0.00000123), "1.23e−6"),
        (numbers.significant(0), "0"),
        (numbers.points(0.0145), "+1.45"),
        (numbers.points(-0.123), "−12.3"),
        (numbers.size(239_600_000), "240 MB"),
        (numbers.size(12), "12 B"),
        (numbers.dollars(0.004), "< $0.01"),
        (numbers.dollars(0), "$0.00"),
        (numbers.dollars(8.369), "$8.37"),
        (numbers.dollars(1234.5), "$1,234"),
        (numbers.dollars(4_612_345), "$4.61 M"),
        (numbers.duration(0.038), "38 ms"),
        (numbers.duration(95), "1 min 35 s"),
        (numbers.duration(5400), "1 h 30 min"),
        (numbers.duration(60), "1 min"),
        (numbers.duration(95, "ko"), "1분 35초"),
        (numbers.duration(9.97), "10 s"),
        (numbers.duration(86_400 * 2 + 3600 * 3), "2 d 3 h"),
    ],
)
def test_numbers(written: str, expected: str) -> None:
    assert written == expected
