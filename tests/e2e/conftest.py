"""The studio as people meet it: a process of its own, and a real Chromium that opens its pages."""

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
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

# Debian calls it chromium; NUDGE_CHROMIUM names another place.
CHROMIUM = os.environ.get("NUDGE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

# A machine with other work may need longer than the 5 s that are usual; what is there is not waited for.
expect.set_options(timeout=20_000)


@dataclass(frozen=True)
class Studio:
    """A studio that runs, and the folder of its runs."""

    url: str
    runs: Path
    process: subprocess.Popen[str]


@contextmanager
def serving(runs: Path, *options: str) -> Iterator[Studio]:
    """`nudge studio` on a free port, until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "nudge", "studio", str(runs), "--port", str(port), *options]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
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


@pytest.fixture
def studio(runs: Path) -> Iterator[Studio]:
    """A studio for this test alone."""
    with serving(runs) as running:
        yield running


@pytest.fixture(scope="session")
def shared_studio(trained: Path) -> Iterator[Studio]:
    """One studio for all tests that only look."""
    with serving(trained) as running:
        yield running


@pytest.fixture(scope="module")  # Playwright keeps an event loop running, in which no other test could start its own
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.fail("there is no Chromium: install Debian's package chromium, or name one with NUDGE_CHROMIUM")
    with sync_playwright() as playwright:
        # No sandbox: it needs rights that a container rarely has, and the pages are our own.
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page as one more person: `visitor(url, locale="ko-KR", color_scheme="dark")`.

    Nothing may go wrong in the page, and nothing may leave the machine: both are checked when the test ends.
    """
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def visit(url: str, **settings: object) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, "locale": "en-US", **settings})  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(f"script error: {error}"))
        page.on("console", lambda said: wrong.append(f"console: {said.text}") if said.type == "error" else None)
        page.on("request", lambda request: _is_local(request.url) or wrong.append(f"left the machine: {request.url}"))
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not wrong, wrong


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))
