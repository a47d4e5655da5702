"""What all tests share: no network, no writing into the person's folders, few threads."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Before anything imports torch, here or in a process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # see nudge.cli.main
os.environ["HF_HUB_OFFLINE"] = "1"
for variable in ("COLUMNS", "FORCE_COLOR", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # a test may call make itself
    os.environ.pop(variable, None)
# Control-C is ignored by what a script runs in the background (`make check &`), and by all that is started there.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Prepared text goes to a folder of this session, not to the person's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUDGE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Tiny Shakespeare, Korean reviews and published vocabularies, which are too large to live beside the code."""
    places = [os.environ.get("NUDGE_TEST_DATA"), ROOT / "shared" / "data", ROOT.parent / "shared" / "data"]
    for place in places:
        if place and Path(place, "tinyshakespeare.txt").exists():
            return Path(place)
    pytest.skip("the large test texts are not here: NUDGE_TEST_DATA names their folder")


@pytest.fixture(scope="session")
def peer() -> Callable[[str], Path]:
    """The checkout of another program, such as nanoGPT or llm.c, whose own code a golden test runs."""

    def find(name: str) -> Path:
        places = [os.environ.get("NUDGE_PEERS"), ROOT.parent / "peers"]
        for place in places:
            if place and Path(place, name).is_dir():
                return Path(place, name)
        pytest.skip(f"no checkout of {name} here: NUDGE_PEERS names the folder that holds it")

    return find


@pytest.fixture
def nudge(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command in a process of its own, in this test's folder: `nudge("sample", "--seed", "1")`."""

    def run(*args: str, **settings: object) -> subprocess.CompletedProcess[str]:
        defaults = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 300}
        if "input" not in settings:
            defaults["stdin"] = subprocess.DEVNULL
        return subprocess.run([sys.executable, "-m", "nudge", *args], check=False, **{**defaults, **settings})  # type: ignore[call-overload]

    return run
