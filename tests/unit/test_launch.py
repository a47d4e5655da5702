"""Processes that the studio starts: their names, their arguments, and what they left behind."""

import asyncio
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.waiting import wait_until

from nudge.cli import train as commands
from nudge.config import Config
from nudge.errors import ConfigError, MachineError
from nudge.estimate import forecast as forecasts
from nudge.events import Preparing
from nudge.recipes import RECIPES, recipe
from nudge.studio.launch import FOLDER, Launcher, _arguments
from nudge.studio.words import Words

SMALL = recipe("tiny", model={"n_layer": 1, "n_head": 1, "n_embd": 16, "block_size": 8}, train={"batch_tokens": 16})


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    (tmp_path / "runs" / FOLDER).mkdir(parents=True)
    return Launcher(tmp_path / "runs")


def leave(launcher: Launcher, name: str, *lines: str) -> None:
    """What a process that is gone left behind."""
    (launcher.runs / FOLDER / f"{name}.log").write_text("\n".join(lines) + "\n", encoding="utf-8")


BAD_NAMES = dict.fromkeys(
    ("", ".", "..", ".hidden", "../up", "a/b", "/etc", "a\\b", "a\nb", "\x00"), "config.run_name"
) | dict.fromkeys(("x" * 201, "한" * 67), "config.run_name_too_long")


@pytest.mark.parametrize(("name", "code"), BAD_NAMES.items())
def test_a_name_never_leads_elsewhere(launcher: Launcher, name: str, code: str) -> None:
    with pytest.raises(ConfigError) as error:
        launcher.start(name, recipe("tiny"))
    assert error.value.code == code
    with pytest.raises(ConfigError) as error:
        launcher.forget(name)
    assert error.value.code == code
    assert launcher.look(name) is None
    assert list(launcher.runs.iterdir()) == [launcher.runs / FOLDER]


def test_a_name_can_be_long(launcher: Launcher) -> None:
    launcher.check_name("x" * 200)


def test_a_file_outside_is_not_looked_at(launcher: Launcher) -> None:
    (launcher.runs.parent / "secret.log").write_text("error: secret\n", encoding="utf-8")
    assert launcher.look("../../secret") is None


def test_names_that_are_taken(launcher: Launcher) -> None:
    (launcher.runs / "tiny").mkdir()
    leave(launcher, "tiny-2")
    assert launcher.free_name("tiny") == "tiny-3"
    assert launcher.free_name("modern") == "modern"
    with pytest.raises(ConfigError) as error:
        launcher.check_name("tiny")
    assert error.value.code == "config.run_exists"


def command_line(config: Config) -> Config:
    """The config that `nudge train` makes of the arguments."""
    context = commands.train.make_context("train", [f"--recipe={config.recipe}", *_arguments(config)])
    return commands.make_config(**context.params, default_minutes=commands.MINUTES)


@pytest.mark.parametrize("name", RECIPES)
def test_the_process_is_asked_for_just_that_config(name: str) -> None:
    base = recipe(name)
    assert command_line(base) == base
    changes = {
        "seed": 7,
        "data": {"paths": ("--help", "a b; rm -rf /")},
        "train": {"steps": 3, "lr": 2.5e-4, "batch_tokens": 4 * base.model.block_size},
    }
    changed = recipe(name, **changes)
    assert command_line(changed) == changed


def test_why_a_process_ended(launcher: Launcher) -> None:
    leave(launcher, "a", '{"event": "preparing"}', "error: there is no x", " hint: check the path")
    launch = launcher.look("a")
    assert launch is not None
    assert (launch.alive, launch.error, launch.hint) == (False, "there is no x", "check the path")
    leave(launcher, "a", "Traceback (most recent call last):", "RuntimeError: of something")
    launch = launcher.look("a")
    assert launch is not None
    assert launch.error == "RuntimeError: of something"
    leave(launcher, "a", "Warning: of something", *['{"event": "step", "x": "' + "y" * 100 + '"}'] * 1000)
    launch = launcher.look("a")
    assert launch is not None
    assert not launch.error  # it came to an end, and a line that the reading began in is no error
    launcher.forget("a")
    assert launcher.look("a") is None
    assert launcher.names() == []


def test_why_a_process_ended_is_known_by_its_code(launcher: Launcher) -> None:
    path = launcher.runs / "no such text.txt"
    launcher.start("a", recipe("tiny", data={"paths": (str(path),)}))
    wait_until(lambda: not ((launch := launcher.look("a")) and launch.alive), "its end")
    launch = launcher.look("a")
    assert launch is not None
    assert launch.failure is not None
    assert launch.failure.code == "data.missing"
    assert (launch.failure.message, launch.failure.hint) == (launch.error, launch.hint)
    assert Words("ko").failure(launch.failure) == (f"찾을 수 없습니다: {path}", "다음 중에서 고르세요: .starting")
    leave(launcher, "b", '{"code": "data.of_a_newer_version", "where": "", "values": {}}', "error: new")
    launch = launcher.look("b")
    assert launch is not None
    assert (launch.error, launch.failure) == ("new", None)


def test_what_it_is_at(launcher: Launcher) -> None:
    leave(launcher, "a", json.dumps({"event": "preparing", "what": "tokens", "done": 5, "total": 9}))
    launch = launcher.look("a")
    assert launch is not None
    assert launch.preparing == Preparing(what="tokens", done=5, total=9)
    assert launcher.names() == ["a"]


def test_another_process_with_its_number_is_not_it(launcher: Launcher) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        leave(launcher, "a", "{}")
        (launcher.runs / FOLDER / "a.json").write_text(json.dumps({"pid": other.pid, "born": 1.0}), encoding="utf-8")
        launch = launcher.look("a")
        assert launch is not None
        assert not launch.alive
        launcher.end("a")
        assert other.poll() is None
        other.communicate(b"\n")


@pytest.mark.slow
def test_a_forecast_is_rehearsed_in_a_process_of_its_own(launcher: Launcher) -> None:
    found = asyncio.run(launcher.forecast(SMALL))
    assert found.measured
    assert found.needed_bytes < found.free_bytes
    assert found.tokens_per_s(SMALL) == pytest.approx(16 / found.rehearsal.step_s)
    longer = dataclasses.replace(SMALL, train=dataclasses.replace(SMALL.train, steps=2 * SMALL.train.steps), seed=3)
    assert launcher.known_forecast(longer) is found
    assert 1.5 < found.total_s(longer) / found.total_s(SMALL) < 2.5
    wider = dataclasses.replace(SMALL, train=dataclasses.replace(SMALL.train, batch_tokens=32))
    assert launcher.known_forecast(wider) is None


def test_what_does_not_fit_is_an_error() -> None:
    with pytest.raises(MachineError) as error:
        forecasts.forecast(recipe("gpt3"))
    assert error.value.code == "machine.memory"
