"""Runs that are started from a page. Each is a process of its own that outlives the studio.

What it says goes to a file in a hidden folder beside the runs, so that text that is being prepared, and an error before
there is a run folder, are shown on every page and by a studio that came back. From then on the run's own events tell.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from nudge import config as configs
from nudge import events
from nudge.config import Config
from nudge.errors import ConfigError, MachineError, NudgeError, RunError
from nudge.estimate.forecast import Forecast, from_json
from nudge.events import Preparing
from nudge.recipes import recipe
from nudge.util import files

FOLDER = ".starting"
_TAIL_BYTES = 16_384
_TOO_LONG_S = 90.0
_NAME_BYTES = 200  # file systems take 255, and files are named after a run with something added


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A process that was started for a run, as its file shows it."""

    alive: bool
    preparing: Preparing | None = None  # what it is at, before there is a run folder
    error: str = ""  # why it ended
    hint: str = ""


class Launcher:
    """Starts processes that train in a folder of runs, and knows how they are."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self._children: list[subprocess.Popen[bytes]] = []
        self._children_lock = threading.Lock()  # a list of runs is made in a thread
        self._forecasts: dict[str, Forecast] = {}
        self._one_at_a_time = asyncio.Lock()

    def check_name(self, name: str) -> None:
        """Raises: ConfigError for a name that is no folder's, or is taken."""
        self._path(name)
        launch = self.look(name)
        if (self.runs / name).exists() or (launch and launch.alive):
            raise ConfigError(f"there is a run named {name!r} already", "choose another name")

    def free_name(self, wanted: str) -> str:
        """`tiny`, or `tiny-2` and so on if there is one already."""
        number = 1
        while True:
            name = wanted if number == 1 else f"{wanted}-{number}"
            if not (self.runs / name).exists() and not self._path(name).exists():
                return name
            number += 1

    def start(self, name: str, config: Config) -> None:
        """Begin a new run. Raises: ConfigError for a name that cannot be; MachineError if nothing can be written."""
        self.check_name(name)
        # The paths are the person's own, who could type the same in a terminal: nothing limits them to the runs.
        # With "=", so that none of them is taken for an option.
        self._spawn(name, ["train", f"--recipe={config.recipe}", *_arguments(config), f"--run={self.runs / name}"])

    def resume(self, name: str) -> None:
        """Go on with a run from its newest checkpoint."""
        self._spawn(name, ["resume", "--", str(self.runs / name)])

    def _spawn(self, name: str, arguments: Sequence[str]) -> None:
        path = self._path(name)
        command = [sys.executable, "-m", "nudge", arguments[0], "--json", *arguments[1:]]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as log:
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Control-C in the studio's terminal is not meant for it
                )
        except OSError as error:
            raise MachineError(f"cannot start a run in {self.runs}: {error.strerror}", "check the folder") from error
        with self._children_lock:
            self._children.append(child)
        files.write_json(path.with_suffix(".json"), {"pid": child.pid, "born": psutil.Process(child.pid).create_time()})

    def look(self, name: str) -> Launch | None:
        """The process that was last started for a run of that name, if there was one."""
        with self._children_lock:
            self._children = [child for child in self._children if child.poll() is None]  # no zombies stay
        try:
            path = self._path(name)
            with path.open("rb") as log:
                before = max(0, path.stat().st_size - _TAIL_BYTES)
                log.seek(before)
                lines = log.read().decode(errors="replace").split("\n")[1 if before else 0 :]
        except (OSError, ConfigError):
            return None
        alive = self._is_alive(path)
        error, hint = ("", "") if alive else _why(lines)
        return Launch(alive=alive, preparing=_last_preparing(lines), error=error, hint=hint)

    def names(self) -> list[str]:
        """The runs that were started but have no folder yet, the newest first."""
        found = []
        for path in (self.runs / FOLDER).glob("*.log"):
            with contextlib.suppress(FileNotFoundError):  # forgotten meanwhile
                if not (self.runs / path.stem / "run.json").exists():
                    found.append((path.stat().st_mtime, path.stem))
        return [name for _, name in sorted(found, reverse=True)]

    def forget(self, name: str) -> None:
        """Its error was read."""
        for path in (self._path(name), self._path(name).with_suffix(".json")):
            path.unlink(missing_ok=True)

    def end(self, name: str) -> None:
        """End a process that only prepares text: there is no run yet that could be told to stop."""
        with contextlib.suppress(NudgeError, psutil.Error, KeyError, TypeError):
            written = files.read_json(self._path(name).with_suffix(".json"))
            if self._is_alive(self._path(name)):
                psutil.Process(written["pid"]).terminate()
        self.forget(name)

    def _path(self, name: str) -> Path:
        """The file of a run's process. Raises: ConfigError for a name that would lead elsewhere."""
        one_folder = name.isprintable() and "\\" not in name and len(Path(name).parts) == 1
        if not one_folder or name.startswith("."):
            raise ConfigError(f"{name!r} is not a name for a run", "letters, digits, - and _ are always right")
        if (n_bytes := len(os.fsencode(name))) > _NAME_BYTES:
            raise ConfigError(f"a name of {n_bytes} bytes is too long (at most {_NAME_BYTES})", "choose a shorter one")
        return self.runs / FOLDER / f"{name}.log"

    @staticmethod
    def _is_alive(path: Path) -> bool:
        """Whether the process of this file runs; its number may be another's by now, so its birth is compared."""
        try:
            written = files.read_json(path.with_suffix(".json"))
            process = psutil.Process(written["pid"])
            return process.create_time() == written["born"] and process.status() != psutil.STATUS_ZOMBIE
        except (NudgeError, psutil.Error, KeyError, TypeError):
            return False

    # What a run will take.

    def known_forecast(self, config: Config) -> Forecast | None:
        """A forecast that was made before: the seed, the number of steps and the learning rate change nothing."""
        return self._forecasts.get(_question(config))

    async def forecast(self, config: Config, *, keep: bool = True) -> Forecast:
        """Rehearse in a process of its own, one at a time, and remember it unless something disturbs it.

        Raises: NudgeError's children.
        """
        async with self._one_at_a_time:
            question = _question(config)
            found = self._forecasts.get(question) or from_json(await _ask(question))
            if keep:
                self._forecasts[question] = found
            return found


def _arguments(config: Config) -> list[str]:
    """What departs from the recipe, as the command line has it."""
    base, wanted = configs.flat(configs.to_dict(recipe(config.recipe))), configs.flat(configs.to_dict(config))
    settings = [f"--set={key}={value}" for key, value in wanted.items() if value != base[key] and key != "data.paths"]
    paths = [] if wanted["data.paths"] == base["data.paths"] else [f"--data={path}" for path in config.data.paths]
    return settings + paths


def _question(config: Config) -> str:
    train = dataclasses.replace(config.train, steps=0, lr=0.0, minutes=None)
    same = dataclasses.replace(config, train=train, seed=0, data=configs.DataConfig())
    return json.dumps(configs.to_dict(same))


async def _ask(question: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "nudge.estimate.forecast",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "GOMP_SPINCOUNT": "1000"},  # as the command line has it
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(question.encode()), _TOO_LONG_S)
        answer: dict[str, Any] = json.loads(said)
    except TimeoutError:
        raise MachineError("measuring takes too long here", "the run itself can be started all the same") from None
    except ValueError as error:
        raise MachineError("measuring failed here", "'nudge doctor' shows what this machine has") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if "message" in answer:
        raise RunError(answer["message"], answer["hint"])
    return answer


def _last_preparing(lines: Sequence[str]) -> Preparing | None:
    """The progress of preparing, if that is what was last said."""
    event = next((event for line in reversed(lines) if (event := events.from_line(line))), None)
    return event if isinstance(event, Preparing) else None


def _why(lines: Sequence[str]) -> tuple[str, str]:
    """The error and the hint that the command line ended with, or what else a process said last that came to no end."""
    told = [line for line in lines if line.strip()]
    error = next((line.removeprefix("error: ") for line in reversed(told) if line.startswith("error: ")), "")
    hint = next((line.removeprefix(" hint: ") for line in reversed(told) if line.startswith(" hint: ")), "")
    if not error and told and not told[-1].startswith("{"):
        error = told[-1]
    return error, hint
