"""The studio in use: a process of its own, and a real Chromium that opens its pages.

One browser and one studio serve all tests of a worker. A test that writes into a run gets a copy of it from `add_run`;
a test that needs a folder or options of its own starts a studio with `serving`.
"""

import asyncio
import itertools
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

# Debian calls it chromium; NUDGE_CHROMIUM names another place.
CHROMIUM = os.environ.get("NUDGE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

# A busy machine may need longer than the usual 5 s.
expect.set_options(timeout=20_000)


@dataclass(frozen=True)
class Studio:
    """A running studio, and the folder of its runs."""

    url: str
    runs: Path
    process: subprocess.Popen[str]


@contextmanager
def serving(runs: Path, *options: str, **environment: str) -> Iterator[Studio]:
    """Run `nudge studio` on a free port until the block ends. Without options, it needs no token."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "nudge", "studio", str(runs), "--port", str(port), *(options or ["--no-token"])]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environment,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_it_answers(url, process)
        yield Studio(url, runs, process)
    finally:
        process.terminate()
        process.wait(timeout=20)
        assert process.stdout is not None
        process.stdout.close()


def _wait_until_it_answers(url: str, process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            pytest.fail(f"the studio ended at once: {process.stdout.read() if process.stdout else ''}")
        try:
            urllib.request.urlopen(f"{url}/set", timeout=5).close()
            return
        except urllib.error.HTTPError as error:  # it asks for a token: it is there
            error.close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail("the studio did not answer in a minute")


# Studios


@pytest.fixture(scope="session")
def studio(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """The studio of a worker, on a copy of the trained runs. Tests only look at the run `small`; see `add_run`."""
    runs = tmp_path_factory.mktemp("studio") / "runs"
    shutil.copytree(trained, runs, symlinks=True)
    with serving(runs) as running:
        yield running


@pytest.fixture
def add_run(studio: Studio) -> Iterator[Callable[[Path], Path]]:
    """Copies runs into the studio for one test, each under a name that no other test has used.

    Whatever else the test puts into the folder of runs is removed as well.
    """
    before = set(studio.runs.iterdir())

    def add(source: Path) -> Path:
        name = f"{source.name}-{next(_numbers)}"
        return Path(shutil.copytree(source, studio.runs / name, symlinks=True))

    yield add
    for path in set(studio.runs.iterdir()) - before:
        _remove(path)


_numbers = itertools.count(1)


@pytest.fixture
def own_run(add_run: Callable[[Path], Path], trained: Path) -> Path:
    """A copy of the trained run, in the studio, that a test may change."""
    return add_run(trained / "small")


@pytest.fixture(scope="session")
def _empty_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with serving(tmp_path_factory.mktemp("empty") / "none-yet") as running:
        yield running


@pytest.fixture
def empty_studio(_empty_studio: Studio) -> Iterator[Studio]:
    """A studio whose folder of runs is not there yet. What a test puts into it is removed."""
    yield _empty_studio
    if _empty_studio.runs.exists():
        _remove(_empty_studio.runs)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


# The browser


@pytest.fixture(scope="session")
def _browser() -> Iterator[tuple[Browser, asyncio.AbstractEventLoop]]:
    """The browser of a worker, and the event loop of Playwright.

    Playwright leaves its loop suspended in the main thread, marked as running. Between the tests that use it the mark
    is taken off, because other tests run loops of their own there.
    """
    if CHROMIUM is None:
        pytest.fail("there is no Chromium: install Debian's package chromium, or name one with NUDGE_CHROMIUM")
    with sync_playwright() as playwright:
        # No sandbox: it needs rights that a container rarely has, and the pages are our own.
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        yield chromium, loop
        asyncio._set_running_loop(loop)
        chromium.close()


@pytest.fixture
def browser(_browser: tuple[Browser, asyncio.AbstractEventLoop]) -> Iterator[Browser]:
    chromium, loop = _browser
    asyncio._set_running_loop(loop)
    yield chromium
    asyncio._set_running_loop(None)


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page as one more user: `visitor(url, locale="ko-KR", color_scheme="dark")`.

    Nothing may go wrong in the page, and nothing may leave the machine: both are checked when the test ends.
    """
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def visit(url: str, **settings: object) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, "locale": "en-US", **settings})  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(f"script error: {error}"))
        page.on("console", lambda line: wrong.append(f"console: {line.text}") if line.type == "error" else None)
        page.on("request", lambda request: _is_local(request.url) or wrong.append(f"left the machine: {request.url}"))
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not wrong, wrong


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))


def failure(page: Page, code: str) -> Locator:
    """The message of an error with this code."""
    return page.locator(f".message[data-code='{code}']")
