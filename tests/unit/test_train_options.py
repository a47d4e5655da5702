"""The options of `nudge train`: how long a run is, if the user says so and if not."""

from pathlib import Path

import pytest

from nudge.cli import train as commands
from nudge.config import Config
from nudge.recipes import RECIPES, recipe


def typed(*words: str) -> Config:
    """The config that `nudge train` makes of these words."""
    context = commands.train.make_context("train", list(words))
    return commands.make_config(**context.params, default_minutes=commands.MINUTES)


@pytest.mark.parametrize("name", ["tiny", "modern"])
def test_without_a_length_it_takes_some_minutes(name: str) -> None:
    assert typed("--recipe", name).train.minutes == 4.0
    assert typed("--recipe", name, "--set", "model.n_layer=2", "--seed", "3").train.minutes == 4.0
    assert recipe(name).train.minutes is None  # from Python, the recipe's number of updates stands


@pytest.mark.parametrize("name", sorted({*RECIPES} - {"tiny", "modern"}))
def test_the_other_recipes_have_their_own_length(name: str) -> None:
    assert typed("--recipe", name) == recipe(name)


def test_a_stated_length_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[train]\nsteps = 1600\n")
    for words, steps in (
        (("--steps", "1600"), 1600),
        (("--tokens", "10K"), 10),
        (("--set", "train.steps=1600"), 1600),
        (("--config", str(path)), 1600),
    ):
        train = typed(*words).train
        assert (train.steps, train.minutes) == (steps, None)
    path.write_text("[train]\nminutes = 7\n")
    for words, minutes in (
        (("--minutes", "1"), 1.0),
        (("--set", "train.minutes=2"), 2.0),
        (("--config", str(path)), 7.0),
    ):
        assert typed(*words).train.minutes == minutes
    path.write_text("[train]\nlr = 0.001\n")
    assert typed("--config", str(path)).train.minutes == 4.0
