"""The machines of a plan and their prices: the data agrees with itself, and what is typed wrongly is refused."""

import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from nudge.errors import ConfigError
from nudge.model.sizes import training_flops_per_token
from nudge.plan import this_machine
from nudge.plan.hardware import DEVICES, PRICES, device, parse_price, price
from nudge.plan.published import RUNS
from nudge.plan.this_machine import LocalSpeed
from nudge.recipes import recipe

MEASURED = LocalSpeed(
    date="2026-11-21", machine="AMD EPYC, 2 threads", device="cpu", dtype="float32", recipe="tiny",
    model=recipe("tiny").model, batch_tokens=1024, tokens_per_s=4000.0, spread=0.2,
)  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NUDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_is_found_by_its_name_and_says_where_it_comes_from(name: str):
    found = device(name)
    assert found.name == name
    assert found.source
    assert found.peak_flops > found.float32_flops >= 0
    assert found.link_bytes_per_s >= found.network_bytes_per_s > 0
    assert found.memory_bytes >= 16e9
    assert str(found.memory_bytes // 10**9) in found.title or name == "tpu-v3"


@pytest.mark.parametrize(
    ("name", "tera", "gigabytes"),
    [
        ("h100", 989.4, 80),
        ("h200", 989.4, 141),
        ("a100-80", 312, 80),
        ("a100-40", 312, 40),
        ("4090", 165.2, 24),
        ("b200", 2250, 180),
    ],
)
def test_peaks_are_dense_and_in_bfloat16(name: str, tera: float, gigabytes: int):
    """Data sheets print the figure with sparsity first, which is twice as large."""
    assert device(name).peak_flops == pytest.approx(tera * 1e12)
    assert device(name).memory_bytes == gigabytes * 10**9


def test_a_number_type_without_products_is_refused():
    with pytest.raises(ConfigError) as refused:
        device("h100").peak("int3")
    assert refused.value.code == "config.unknown_choice"
    assert refused.value.values["value"] == "int3"
    assert "bfloat16" in refused.value.hint


def test_every_machine_of_a_published_run_is_known():
    assert {run.device for run in RUNS} <= set(DEVICES)


def test_every_price_has_a_device_a_date_and_a_source():
    for name, known in PRICES.items():
        assert known.device == name == device(name).name
        assert re.fullmatch(r"20\d\d(-\d\d-\d\d)?", known.date)
        assert known.source
        assert 0 < known.usd_per_hour < 20
    assert price("h100") == PRICES["h100"]
    assert price("t4") is None


def test_the_lecture_pays_three_dollars_for_an_h100():
    assert PRICES["h100"].usd_per_hour * 8 * 24 == 576


def test_capital_letters_do_not_matter():
    assert device("H100") == device("h100")


@pytest.mark.parametrize(("typed", "meant"), [("h10", "h100"), ("a100", "a100-80"), ("4080", "4090")])
def test_an_unknown_gpu_is_told_the_nearest_names(typed: str, meant: str):
    with pytest.raises(ConfigError) as refused:
        device(typed)
    assert (refused.value.code, refused.value.values["name"]) == ("config.unknown_gpu", typed)
    assert meant in refused.value.hint


def test_a_price_with_its_date():
    given = parse_price("$2.49@2026-11-20", "h100")
    assert (given.device, given.usd_per_hour, given.date) == ("h100", 2.49, "2026-11-20")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("3", "price_without_date"),
        ("3@", "price_without_date"),
        ("three@2026-11-20", "not_a_price"),
        ("-3@2026-11-20", "not_a_price"),
        ("nan@2026-11-20", "not_a_price"),
        ("3@2026-13-20", "price_with_bad_date"),
        ("3@yesterday", "price_with_bad_date"),
        ("@2026-11-20", "not_a_price"),
    ],
)
def test_a_bad_price_is_refused_with_an_example(text: str, code: str):
    with pytest.raises(ConfigError) as refused:
        parse_price(text, "h100")
    assert refused.value.code == f"config.{code}"
    assert re.search(r"--price [\d.]+@\d{4}-\d\d-\d\d", refused.value.hint)


def test_the_example_in_a_hint_is_dated_today():
    with pytest.raises(ConfigError) as refused:
        parse_price("2.5", "h100")
    assert f"2.5@{date.today().isoformat()}" in refused.value.hint


def test_this_machine_must_be_measured_first(cache: Path):
    with pytest.raises(ConfigError) as refused:
        device("cpu")
    assert refused.value.code == "config.processor_not_measured"
    assert "--calibrate" in refused.value.hint
    this_machine.remember(replace(MEASURED, device="cuda"))
    with pytest.raises(ConfigError) as refused:
        device("cpu")
    assert refused.value.code == "config.processor_not_measured"
    this_machine.remember(MEASURED)
    here = device("CPU")
    assert here.title == "AMD EPYC, 2 threads"
    assert here.peak("float32") == 4000 * training_flops_per_token(MEASURED.model)
    assert here.peak("bfloat16") == 0
    assert here.memory_bytes > 1e8
    this_machine.remember(replace(MEASURED, dtype="bfloat16", tokens_per_s=8000.0))
    assert device("cpu").peak("bfloat16") == 2 * here.peak("float32")
