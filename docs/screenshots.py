"""Take the pictures in docs/ anew: every page of the studio, in English and Korean, some of them dark, and every sheet.

    python docs/screenshots.py [RUNS_DIR]

RUNS_DIR holds a run named `tiny` and one named `korean`; without it, both are trained first, which takes minutes.
The studio's are made with the Chromium that NUDGE_CHROMIUM names, or the one that is installed; Korean needs its fonts
(Debian: fonts-noto-cjk), and the sheets their pen (fonts-nanum-extra).
"""

import io
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from nudge.sheet.catalog import NAMES, draw, text_of

OUT = Path(__file__).parent / "screenshots"
SHEETS = Path(__file__).parent / "sheets"
# Korean sentences are put together from these parts: enough for a small model to be unsure of what comes next.
WHO = ("구글에서", "서울의 한 회사가", "작은 연구소에서", "대학교에서", "이 팀에서", "부산의 한 학교가")
WHOM = ("시니어 엔지니어를", "주니어 개발자를", "데이터 과학자를", "한국어 선생님을", "새로운 동료를", "디자이너를")
WHAT = ("채용합니다", "찾습니다", "기다립니다", "만났습니다", "모집합니다", "칭찬했습니다")
WHEN = ("", "오늘 ", "다음 주에 ", "올해도 ", "드디어 ", "함께 일할 ")
ENDS = (".", ".", ".", "!", "?")
WIDTH, HEIGHT = 1440, 900


def nudge(*args: str) -> list[str]:
    """The command line of `nudge` with these arguments."""
    return [sys.executable, "-m", "nudge", *args]


def train(runs: Path) -> None:
    """A model of Python code, and a small one of Korean sentences."""
    subprocess.run(nudge("train", "--run", str(runs / "tiny")), check=True)
    text = runs / "korean.txt"
    draw = random.Random(0).choice
    lines = (f"{draw(WHO)} {draw(WHEN)}{draw(WHOM)} {draw(WHAT)}{draw(ENDS)}" for _ in range(20_000))
    text.write_text("\n".join(lines), encoding="utf-8")
    short = ("--steps", "200", "--tokenizer", "bpe-600", "--run", str(runs / "korean"))
    subprocess.run(nudge("train", "--data", str(text), *short), check=True)
    text.unlink()


@contextmanager
def serving(runs: Path) -> Iterator[str]:
    """A studio on a free port, until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    # From beside the folder, so that no path of this machine is in a picture.
    command = nudge("studio", runs.name, "--port", str(port), "--no-token")
    process = subprocess.Popen(command, cwd=runs.parent, stdout=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/set", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def take(browser: Browser, url: str, page: str, language: str, theme: str) -> None:
    """One picture of a whole page, once nothing on it changes any more."""
    run = "korean" if language == "ko" else "tiny"
    context = browser.new_context(
        viewport={"width": WIDTH, "height": HEIGHT}, locale=f"{language}-{language.upper()}", color_scheme=theme
    )
    tab = context.new_page()
    tab.goto(f"{url}/{page}?run={run}{ASKS.get(page, '')}")
    if page in PREPARE:
        PREPARE[page](tab)
    tab.wait_for_timeout(2500)
    name = page + ("-ko" if language == "ko" else "") + ("-dark" if theme == "dark" else "")
    tab.screenshot(path=OUT / f"{name}.png", full_page=True)
    print(f"{name}.png", flush=True)
    context.close()


def draw_sheets(runs: Path) -> None:
    """Every sheet in both languages, in 256 colours: a third of the bytes, and the eye sees no difference."""
    SHEETS.mkdir(exist_ok=True)
    for name in NAMES:
        for language in ("ko", "en"):
            run = Path(runs.name) / ("korean" if language == "ko" else "tiny")
            with chdir(runs.parent):  # a sheet names its run as it was called: not by a path of this machine
                page = draw(text_of(name, run=run, language=language), "png", name=name)
            picture = Image.open(io.BytesIO(page)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
            picture.save(SHEETS / f"{name}.{language}.png", optimize=True)
            print(f"{name}.{language}.png", flush=True)


# What a person would have done on the page before the picture.
def nudge_once(tab: Page) -> None:
    """Make an update on Predict."""
    tab.locator("button.q-btn.prim.full").click(timeout=60_000)


def write(tab: Page) -> None:
    """Let the model write on Play, and look at one of its tokens."""
    tab.locator(".play-buttons .prim").click(timeout=60_000)
    tab.wait_for_timeout(3000)
    tab.locator(".tk").nth(4).click()


def wait(tab: Page) -> None:
    """Wait until Sheet has drawn the page."""
    tab.locator(".paper img").wait_for(timeout=60_000)


PREPARE = {"predict": nudge_once, "play": write, "sheet": wait}
ASKS = {"plan": "&recipe=gpt2_small&gpu=4090&count=1", "sheet": "&what=run"}  # what the picture is about


def main() -> None:
    """Take all pictures."""
    OUT.mkdir(exist_ok=True)
    given = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as temporary:
        runs = given or Path(temporary) / "runs"
        if given is None:
            runs.mkdir()
            train(runs)
        draw_sheets(runs)
        from nudge.studio.layout import PAGES

        chromium = os.environ.get("NUDGE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
        with serving(runs) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox", "--font-render-hinting=none"]
            )
            for page in PAGES:
                for language, theme in (("en", "light"), ("ko", "light"), ("en", "dark")):
                    take(browser, url, page, language, theme)
            browser.close()


if __name__ == "__main__":
    main()
