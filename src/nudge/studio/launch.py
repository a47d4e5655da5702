"""Runs that are started from a page. Each is a separate process that goes on after the studio ends.

Its output goes to a file in a hidden folder beside the runs. So every page, and a restarted studio, can show the
progress of preparing text, and an error before there is a run folder. From then on the run's own events are read.
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

import psutil

from nudge import config as configs
from nudge import errors, events
from nudge.config import Config
from nudge.errors import ConfigError, MachineError, NudgeError, first_line
from nudge.estimate.forecast import Forecast
from nudge.events import Preparing
from nudge.recipes import recipe
from nudge.util import files, json_reader

FOLDER = ".starting"
_TAIL_BYTES = 16_384
_TOO_LONG_S = 90.0
_NAME_BYTES = 200  # file systems take 255, and files are named after a run with something added


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """The state of a process that was started for a run, from its file."""

    alive: bool
    preparing: Preparing | None = None  # its progress before there is a run folder
    error: str = ""  # the reason why it ended
    hint: str = ""
    failure: NudgeError | None = dataclasses.field(default=None, compare=False)  # the same, if it has a code


class Launcher:
    """The processes that train in a folder of runs."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self._children: list[subprocess.Popen[bytes]] = []
        self._children_lock = threading.Lock()  # the list of runs is made in a thread
        self._forecasts: dict[str, Forecast] = {}
        self._one_at_a_time = asyncio.Lock()

    def check_name(self, name: str) -> None:
        """Check the name of a new run. Raises: ConfigError if no folder can have it, or if it is taken."""
        self._path(name)
        launch = self.look(name)
        if (self.runs / name).exists() or (launch and launch.alive):
            raise ConfigError("run_exists", name=name)

    def free_name(self, wanted: str) -> str:
        """Return `tiny`, or `tiny-2` and so on if it is taken."""
        name, number = wanted, 1
        while (self.runs / name).exists() or self._path(name).exists():
            number += 1
            name = f"{wanted}-{number}"
        return name

    def start(self, name: str, config: Config) -> None:
        """Start a new run. Raises: ConfigError for an impossible name; MachineError if nothing can be written."""
        self.check_name(name)
        # The user could type the same paths in a terminal, so they are not limited to the runs folder.
        # With "=", so that no value is taken for an option.
        self._spawn(name, "train", f"--recipe={config.recipe}", *_arguments(config), f"--run={self.runs / name}")

    def resume(self, name: str) -> None:
        """Resume a run from its newest checkpoint."""
        self._spawn(name, "resume", "--", str(self.runs / name))

    def _spawn(self, name: str, command: str, *arguments: str) -> None:
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as log:
                child = subprocess.Popen(
                    [sys.executable, "-m", "nudge", command, "--json", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, errors.AS_JSON: "1"},
                    start_new_session=True,  # so that Control-C in the studio's terminal does not reach it
                    creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
                )
        except OSError as error:
            raise MachineError("cannot_start", folder=self.runs, error=error.strerror) from error
        with self._children_lock:
            self._children.append(child)
        try:
            started = _Started(pid=child.pid, born=psutil.Process(child.pid).create_time())
            files.write_json(path.with_suffix(".json"), dataclasses.asdict(started))
        except MachineError:  # no page could show or stop it
            child.kill()
            child.wait()
            raise

    def look(self, name: str) -> Launch | None:
        """Return the process that was last started for a run of that name, if there was one."""
        with self._children_lock:
            self._children = [child for child in self._children if child.poll() is None]  # leaves no zombies
        try:
            path = self._path(name)
            with path.open("rb") as log:
                before = max(0, path.stat().st_size - _TAIL_BYTES)
                log.seek(before)
                lines = log.read().decode(errors="replace").split("\n")[1 if before else 0 :]
        except (OSError, ConfigError):
            return None
        alive = _process(path) is not None
        error, hint = ("", "") if alive else _why(lines)
        failure = None if alive else _failure(lines)
        return Launch(alive=alive, preparing=_last_preparing(lines), error=error, hint=hint, failure=failure)

    def names(self) -> list[str]:
        """Return the runs that were started but have no folder yet, the newest first."""
        found = []
        for path in (self.runs / FOLDER).glob("*.log"):
            with contextlib.suppress(FileNotFoundError):  # forgotten meanwhile
                if not (self.runs / path.stem / "run.json").exists():
                    found.append((path.stat().st_mtime, path.stem))
        return [name for _, name in sorted(found, reverse=True)]

    def forget(self, name: str) -> None:
        """Delete the file of a process. Raises: MachineError."""
        for path in (self._path(name), self._path(name).with_suffix(".json")):
            with files.writing(path):
                path.unlink(missing_ok=True)

    def end(self, name: str) -> None:
        """End a process that is still preparing text: there is no run yet to stop."""
        with contextlib.suppress(psutil.Error):
            if process := _process(self._path(name)):
                process.terminate()
        self.forget(name)

    def _path(self, name: str) -> Path:
        """Return the file of a run's process. Raises: ConfigError for a name that would lead elsewhere."""
        one_folder = name.isprintable() and "\\" not in name and len(Path(name).parts) == 1
        if not one_folder or name.startswith("."):
            raise ConfigError("run_name", name=name)
        if (n_bytes := len(os.fsencode(name))) > _NAME_BYTES:
            raise ConfigError("run_name_too_long", n_bytes=n_bytes, limit=_NAME_BYTES)
        return self.runs / FOLDER / f"{name}.log"

    def known_forecast(self, config: Config) -> Forecast | None:
        """Return an earlier forecast: the seed, the number of steps and the learning rate do not change it."""
        return self._forecasts.get(_question(config))

    async def forecast(self, config: Config, *, keep: bool = True) -> Forecast:
        """Rehearse in a separate process, one at a time. `keep` caches the result; pass False beside a run.

        Raises: NudgeError's children.
        """
        async with self._one_at_a_time:
            question = _question(config)
            found = self._forecasts.get(question) or await _ask(question)
            if keep:
                self._forecasts[question] = found
            return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Started:
    """The process of a run that was started from a page."""

    pid: int
    born: float  # seconds since 1970


def _process(path: Path) -> psutil.Process | None:
    """Return the running process of a file. Another process may have its id by now, so the start time is compared."""
    try:
        started = json_reader.read(path.with_suffix(".json"), _Started)
        process = psutil.Process(started.pid)
        is_it = process.create_time() == started.born and process.status() != psutil.STATUS_ZOMBIE
        return process if is_it else None
    except (NudgeError, psutil.Error, ValueError):  # psutil raises ValueError for a negative id
        return None


def _arguments(config: Config) -> list[str]:
    """Return the number of updates, and the differences from the recipe, as arguments of the command line."""
    base, wanted = configs.flatten(configs.to_dict(recipe(config.recipe))), configs.flatten(configs.to_dict(config))
    base.pop("train.steps")  # without it, the command line trains for some minutes
    settings = [
        f"--set={key}={value}" for key, value in wanted.items() if value != base.get(key) and key != "data.paths"
    ]
    paths = [] if wanted["data.paths"] == base["data.paths"] else [f"--data={path}" for path in config.data.paths]
    return settings + paths


def _question(config: Config) -> str:
    train = dataclasses.replace(config.train, steps=0, lr=0.0, minutes=None)
    same = dataclasses.replace(config, train=train, seed=0, data=configs.DataConfig())
    return json.dumps(configs.to_dict(same))


async def _ask(question: str) -> Forecast:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "nudge.estimate.forecast"),
        stdin=pipe,
        stdout=pipe,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "GOMP_SPINCOUNT": "1000"},  # as the command line has it
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(question.encode()), _TOO_LONG_S)
        answer = json_reader.parse(output)
        if "error" in answer:
            raise errors.from_json(answer["error"])
        return json_reader.convert(answer, Forecast)
    except TimeoutError:
        raise MachineError("forecast_too_long") from None
    except ValueError as error:
        raise MachineError("no_forecast", error=first_line(error)) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _last_preparing(lines: Sequence[str]) -> Preparing | None:
    """Return the progress of preparing, if that is the last event."""
    event = next((event for line in reversed(lines) if (event := events.from_line(line.encode()))), None)
    return event if isinstance(event, Preparing) else None


def _why(lines: Sequence[str]) -> tuple[str, str]:
    """Return the command line's final error and hint, or else its last line if that is not an event."""
    last = [line for line in reversed(lines) if line.strip()]
    error, hint = (
        next((line.removeprefix(mark) for line in last if line.startswith(mark)), "") for mark in ("error: ", " hint: ")
    )
    if not error and last and not last[0].startswith("{"):
        error = last[0]
    return error, hint


def _failure(lines: Sequence[str]) -> NudgeError | None:
    """Return the error that the command line printed as JSON, or None."""
    for line in reversed(lines):
        if line.startswith('{"code"'):
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):  # cut off, or of another version
                return errors.from_json(json_reader.parse(line.encode()))
    return None
