"""The process that draws the studio's sheets: limited, killed when it exceeds a limit, and replaced."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.sheets import pen_font
from tests.waiting import wait_until

from nudge.errors import NudgeError, SheetError
from nudge.sheet import catalog
from nudge.sheet.catalog import text_of
from nudge.studio.drawing import LIMIT_BYTES, Drawer
from nudge.studio.models import Models
from nudge.studio.sheets import SheetRef, Sheets
from nudge.studio.worker import SupersededError

FRONT = '---\ntitle: "a"\n---\n```layout\n5% title\n95% one\n```\n## One <!-- one: blue -->\n'
CHART = "```mermaid\nflowchart LR\n{0}a & b & c & d & e & f --> g & h & i & j & k & l --> a & m & n\n```\n"
REF = SheetRef(what="io", language="en")
SLOW = FRONT + "".join(map(CHART.format, range(150)))  # no two alike: Typst remembers what it has laid out


@pytest.fixture(autouse=True)
def _pen() -> None:
    pen_font()


@pytest.fixture
def drawer() -> Iterator[Drawer]:
    drawer = Drawer()
    yield drawer
    drawer.stop()


def test_one_process_draws_all_pages(drawer: Drawer) -> None:
    text = text_of("io", language="en")
    assert drawer.pid is None
    assert drawer.draw(text, "md", name="io") == text.encode()
    first = drawer.pid
    assert drawer.draw(FRONT, "svg", name="a") == catalog.draw(FRONT, "svg", name="a")
    assert drawer.pid == first != os.getpid()


def test_an_error_comes_back_and_the_process_goes_on(drawer: Drawer) -> None:
    with pytest.raises(SheetError) as error:
        drawer.draw(FRONT + "## Two <!-- two: blue -->\n", "md", name="mine")
    assert (error.value.code, error.value.values["line"]) == ("sheet.unknown_region", 9)
    assert error.value.message.startswith("mine, ")
    first = drawer.pid
    drawer.draw(FRONT, "md", name="mine")
    assert drawer.pid == first


def test_a_process_that_was_killed_is_replaced(drawer: Drawer) -> None:
    drawer.draw(FRONT, "md", name="a")
    first = drawer.pid
    assert first
    os.kill(first, signal.SIGKILL)
    assert drawer.draw(FRONT, "md", name="a") == FRONT.encode()
    assert drawer.pid != first


@pytest.mark.slow
def test_a_page_that_takes_too_long_is_refused_and_the_next_one_drawn() -> None:
    drawer = Drawer(limit_s=3.0)
    began = time.monotonic()
    with pytest.raises(SheetError) as error:
        drawer.draw(SLOW, "png", name="a")
    assert error.value.code == "sheet.too_slow"
    assert time.monotonic() - began < 10
    assert drawer.pid is None
    assert Drawer().draw(FRONT, "md", name="a")


@pytest.mark.slow
def test_a_page_that_takes_too_much_memory_is_refused() -> None:
    drawer = Drawer(limit_bytes=120 * 2**20)  # less than Typst needs at all
    with pytest.raises(NudgeError) as error:
        drawer.draw(text_of("io", language="en"), "png", name="a")
    assert error.value.code == "sheet.too_much_memory"
    assert drawer.pid is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the limits of another process")
def test_the_memory_and_the_time_of_the_process_are_limited(drawer: Drawer) -> None:
    import resource

    drawer.draw(FRONT, "md", name="a")
    assert drawer.pid
    assert resource.prlimit(drawer.pid, resource.RLIMIT_AS)[0] == LIMIT_BYTES
    assert 20 < resource.prlimit(drawer.pid, resource.RLIMIT_CPU)[0] < 60


@pytest.mark.slow
def test_a_process_with_too_much_memory_of_earlier_pages_is_replaced() -> None:
    drawer = Drawer(limit_bytes=620 * 2**20)
    text, pids = text_of("io", language="en"), set()
    for n in range(3):
        drawer.draw(f"{text}\n<!-- {n} -->\n".replace("Neural", f"Neural {n}"), "png", name="io")
        pids.add(drawer.pid)
    drawer.stop()
    assert len(pids) > 1


@pytest.mark.slow
def test_the_memory_of_the_studio_does_not_count() -> None:
    """A new process inherits the largest memory that the process which starts it ever had."""
    a_large_model, drawer = b"x" * (700 << 20), Drawer(limit_bytes=1 << 30)
    assert drawer.draw(text_of("io", language="en"), "svg", name="io").startswith(b"<svg")
    drawer.stop()
    assert len(a_large_model) > drawer.limit_bytes / 2


@pytest.mark.slow
def test_a_newer_text_ends_the_drawing_of_an_older_one_and_the_studio_answers_meanwhile(tmp_path: Path) -> None:
    async def main() -> None:
        sheets = Sheets(Models(tmp_path))
        older = asyncio.ensure_future(sheets.draw(SLOW, "png", name="a", key="page"))
        await asyncio.to_thread(wait_until, lambda: sheets.drawer.pid is not None, "a process that draws")
        for _ in range(10):  # the studio's loop and the texts of other sheets do not wait
            began = time.monotonic()
            await sheets.text(sheets.keep(REF, FRONT))
            await sheets.text(REF)
            await asyncio.sleep(0.1)
            assert time.monotonic() - began < 1.0
        assert not older.done()
        assert await sheets.draw(FRONT, "md", name="a", key="page") == FRONT.encode()
        with pytest.raises(SupersededError):
            await older
        sheets.drawer.stop()

    asyncio.run(main())
