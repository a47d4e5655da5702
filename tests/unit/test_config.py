import json
import math
from pathlib import Path

import pytest

from nudge import config as configs
from nudge.config import Config, ModelConfig, TrainConfig
from nudge.errors import ConfigError
from nudge.other_names import OTHER_NAMES
from nudge.recipes import RECIPES, recipe


def with_(**settings):
    return configs.override(Config(), settings)


def test_override_replaces_only_what_is_given():
    config = with_(seed=7, train={"lr": 3e-4, "steps": "1e3"})
    assert (config.seed, config.train.lr, config.train.steps) == (7, 3e-4, 1000)
    assert config.train.batch_tokens == TrainConfig().batch_tokens
    assert config.model == ModelConfig()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("train.steps=1_000", 1000),
        ("train.lr=3e-4", 3e-4),
        ("train.minutes=none", None),
        ("train.schedule=wsd", "wsd"),
        ("machine.deterministic=true", True),
        ("machine.dtype=bfloat16", "bfloat16"),
        ("machine.dtype=none", None),
        ("machine.threads=4", 4),
        ("sample.prompt=a = b", "a = b"),
        ("data.paths=book.txt", ("book.txt",)),
    ],
)
def test_settings_from_the_command_line(setting, value):
    config = configs.override(Config(), configs.parse_settings([setting]))
    section, name = setting.partition("=")[0].split(".")
    got = getattr(getattr(config, section), name)
    assert (got, type(got)) == (value, type(value))


@pytest.mark.parametrize(
    ("setting", "message", "hint"),
    [
        ("train.lrr=1", "unknown setting 'train.lrr'", "did you mean 'train.lr'"),
        ("lr=1", "unknown setting 'lr'", "did you mean 'train.lr'?"),
        ("trian.lr=1", "unknown setting 'trian'", "train"),
        ("train=1", "'train' is a section", "train.NAME="),
        ("train.steps=2.5", "'train.steps' must be a whole number", "--set train.steps="),
        ("train.steps=many", "'train.steps' must be a whole number", ""),
        ("train.lr=fast", "'train.lr' must be a number", ""),
        ("train.schedule=cosin", "'train.schedule' cannot be 'cosin'", "did you mean 'cosine'"),
        ("train.steps=none", "'train.steps' needs a value", ""),
        ("machine.deterministic=maybe", "must be true or false", ""),
        ("train.lr", "expected section.key=value, got 'train.lr'", "--set train.lr=3e-4"),
        ("train.lr.x=1", "'train.lr' must be a number", ""),
    ],
)
def test_what_is_wrong_with_a_setting_is_said(setting, message, hint):
    with pytest.raises(ConfigError) as caught:
        configs.override(Config(), configs.parse_settings([setting]))
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_config_survives_json():
    config = with_(init="runs/x", data={"paths": ["a", "b"]}, machine={"dtype": "bfloat16"}, sample={"prompt": None})
    assert configs.from_dict(json.loads(json.dumps(configs.to_dict(config)))) == config


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_works_and_knows_its_name(name):
    configs.check(recipe(name))
    assert recipe(name).recipe == name


def test_a_recipe_with_settings_of_its_own():
    config = recipe("tiny", seed=3, train={"steps": 40})
    assert (config.seed, config.train.steps) == (3, 40)
    with pytest.raises(ConfigError, match="unknown recipe 'tinny'") as caught:
        recipe("tinny")
    assert "'tiny'" in caught.value.hint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": {"n_embd": 100, "n_head": 3}}, "n_embd"),
        ({"model": {"n_layer": 0}}, "model.n_layer must be 1 or more"),
        ({"train": {"lr": -1}}, "train.lr must be"),
        ({"train": {"lr": math.nan}}, "train.lr must be"),
        ({"train": {"lr": math.inf}}, "train.lr must be"),
        ({"train": {"batch_tokens": 1000}}, "not a multiple of model.block_size"),
        ({"train": {"micro_batch": 3}}, "does not divide"),
        ({"train": {"minutes": 0}}, "train.minutes"),
        ({"train": {"beta2": 1}}, "train.beta2"),
        ({"train": {"grad_clip": 0}}, "train.grad_clip"),
        ({"sample": {"top_p": 2}}, "top_p must be above 0 and at most 1, got 2"),
        ({"sample": {"top_k": 0}}, "top_k"),
        ({"sample": {"temperature": -0.1}}, "temperature"),
        ({"data": {"val_share": 1}}, "data.val_share"),
        ({"save": {"every": 0}}, "save.every"),
        ({"save": {"keep_last": 0}}, "save.keep_last"),
        ({"machine": {"threads": 0}}, "machine.threads"),
        ({"machine": {"usd_per_hour": -1}}, "machine.usd_per_hour"),
    ],
)
def test_what_cannot_work_is_refused(settings, message):
    with pytest.raises(ConfigError) as caught:
        configs.check(with_(**settings))
    assert message in caught.value.message


def test_toml(tmp_path: Path):
    path = tmp_path / "run.toml"
    path.write_text("seed = 3\n[train]\nlr = 3e-4\nminutes = 2\n", encoding="utf-8")
    config = configs.override(Config(), configs.read_toml(path))
    assert (config.seed, config.train.lr, config.train.minutes) == (3, 3e-4, 2.0)


@pytest.mark.parametrize(("content", "message"), [(b"[train", "is not valid TOML"), (b"\xff", "cannot read")])
def test_a_broken_config_file(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        configs.read_toml(path)
    with pytest.raises(ConfigError, match="cannot read"):
        configs.read_toml(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500,000", 500_000), ("500_000", 500_000), ("-5", -5), ("10M", 10**7), ("33.5b", 33_500_000_000),
        ("1e6", 10**6), ("5E+5", 500_000), (" 2 K", 2000), ("100억", 10**10), ("1.5 조", 1_500_000_000_000),
    ],
)  # fmt: skip
def test_counts_as_people_write_them(text: str, value: int):
    assert configs.parse_count(text) == value


@pytest.mark.parametrize("text", ["many", "", "M", "nan", "inf", "1e999", "1.2.3", "10 Mio", "1e-3"])
def test_what_is_no_count_is_refused(text: str):
    with pytest.raises(ConfigError, match=f"tokens cannot be '{text}'") as refused:
        configs.parse_count(text, "tokens")
    assert "33.5B" in refused.value.hint


def test_nested_settings_by_their_full_names():
    assert configs.flatten({"train": {"lr": 3e-4, "steps": 2}, "seed": 1, "data": {"paths": ("a", "b")}}) == {
        "train.lr": 3e-4,
        "train.steps": 2,
        "seed": 1,
        "data.paths": ("a", "b"),
    }


def test_the_names_of_other_programs_are_known():
    for name, ours in OTHER_NAMES.items():
        assert set(ours) <= set(configs.keys()), name
        assert name not in {key.rsplit(".", 1)[-1] for key in configs.keys()}, name  # noqa: SIM118 (a function)
    with pytest.raises(ConfigError) as refused:
        configs.override(Config(), configs.parse_settings(["train.learning_rate=1"]))
    assert refused.value.values["closest"] == "did you mean 'train.lr'?"
