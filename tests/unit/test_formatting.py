"""Numbers are written as people write them."""

import pytest

from nudge.util import formatting


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (formatting.count(19_961_856), "20.0 M"),
        (formatting.count(19_961_856, "ko"), "1,996만"),
        (formatting.count(124_439_808, "ko"), "1.244억"),
        (formatting.count(1152), "1.15 k"),
        (formatting.count(384), "384"),
        (formatting.percent(0.31234), "31.2%"),
        (formatting.percent(0.00031), "0.031%"),
        (formatting.percent(1e-9), "< 0.0001%"),
        (formatting.percent(0.0), "0%"),
        (formatting.percent(1.0), "100%"),
        (formatting.percent(0.9996), "99.96%"),
        (formatting.percent(0.99949), "99.9%"),
        (formatting.percent(float("nan")), "NaN"),
        (formatting.fixed(-0.314, 2), "−0.31"),
        (formatting.fixed(0.314, 2, sign=True), "+0.31"),
        (formatting.fixed(-0.001, 2, sign=True), "0.00"),
        (formatting.fixed(float("inf")), "∞"),
        (formatting.significant(0.0123456), "0.0123"),
        (formatting.significant(9.996), "10.0"),
        (formatting.significant(1234.5), "1,234"),
        (formatting.significant(0.00000123), "1.23e−6"),
        (formatting.significant(0), "0"),
        (formatting.points(0.0145), "+1.45"),
        (formatting.points(-0.123), "−12.3"),
        (formatting.size(239_600_000), "240 MB"),
        (formatting.size(12), "12 B"),
        (formatting.dollars(0.004), "< $0.01"),
        (formatting.dollars(0), "$0.00"),
        (formatting.dollars(8.369), "$8.37"),
        (formatting.dollars(1234.5), "$1,234"),
        (formatting.dollars(4_612_345), "$4.61 M"),
        (formatting.duration(0.038), "38 ms"),
        (formatting.duration(95), "1 min 35 s"),
        (formatting.duration(5400), "1 h 30 min"),
        (formatting.duration(60), "1 min"),
        (formatting.duration(95, "ko"), "1분 35초"),
        (formatting.duration(9.97), "10 s"),
        (formatting.duration(86_400 * 2 + 3600 * 3), "2 d 3 h"),
    ],
)
def test_numbers(written: str, expected: str) -> None:
    assert written == expected
