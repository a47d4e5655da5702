"""What all tests share: no network, no writing into the person's folders, one thread, and what is made only once."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from filelock import FileLock

ROOT = Path(__file__).parent.parent

# Before anything imports torch, here or in a process that a test starts. Tests run side by side, one on each core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # see nudge.cli.main
os.environ["HF_HUB_OFFLINE"] = "1"
for variable in ("COLUMNS", "FORCE_COLOR", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # a test may call make itself
    os.environ.pop(variable, None)
# Control-C is ignored by what a script runs in the background (`make check &`), and by all that is started there.
signal.signal(signal.SIGINT, signal.default_int_handler)


# An example takes as long as a busy machine lets it: time is measured in bench/, not here. A change is judged by the
# same examples on every machine and on every day; `--hypothesis-profile=search` looks for new ones.
hypothesis.settings.register_profile("nudge", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("nudge")


# Which tests run

SEED = "NUDGE_CAMPAIGN_SEED"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("nudge")
    group.addoption("--campaign", action="store_true", help="run the campaign instead: a few of each kind of long test")
    group.addoption("--full", action="store_true", help="with --campaign: all of each kind")
    group.addoption("--seed", type=int, help="with --campaign: draw what an earlier one drew; it printed its seed")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.seed is None:
        config.option.seed = int(os.environ.get(SEED) or random.SystemRandom().randrange(1_000_000))
    os.environ[SEED] = str(config.option.seed)  # the workers of pytest-xdist, which start now, draw the same


def pytest_report_header(config: pytest.Config) -> str | None:
    if not config.option.campaign:
        return None
    return f"campaign: the same again by make campaign ARGS='--seed {config.option.seed}'"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The seed once more, where a failure is read."""
    if header := pytest_report_header(config):
        terminalreporter.write_line(header)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of a campaign apart from the others; of each of its kinds draw as many as its mark says.

    Whatever starts a browser or kills processes is slow: those folders need no mark.
    """
    for item in items:
        if item.path.parent.name in ("e2e", "fault"):
            item.add_marker(pytest.mark.slow)
    long = [item for item in items if item.get_closest_marker("campaign")]
    if config.option.campaign:
        kept = set(long if config.option.full else _drawn(long, config.option.seed))
    else:
        kept = set(items) - set(long)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def _drawn(items: list[pytest.Item], seed: int) -> list[pytest.Item]:
    kinds: dict[str, list[pytest.Item]] = {}
    for item in items:
        kinds.setdefault(item.nodeid.partition("[")[0], []).append(item)
    drawn = []
    for kind, same in kinds.items():
        mark = same[0].get_closest_marker("campaign")
        assert mark is not None
        drawn += random.Random(f"{seed} {kind}").sample(same, min(len(same), mark.kwargs.get("sample", 1)))
    return drawn


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Chance: in a campaign new each time, but for the same --seed the same; elsewhere always the same."""
    seed = request.config.option.seed if request.config.option.campaign else 7
    return random.Random(f"{seed} {request.node.nodeid}")


# What is made once


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this session share, however many pytest-xdist started."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(common: Path) -> Iterator[Path]:
    """Prepared text and compiled kernels go to a folder of this session, not to the person's cache."""
    folder = common / "cache"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUDGE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def trained(common: Path, own_cache: Path) -> Path:
    """A folder of runs with one small model, really trained: 60 updates on text with Korean and hostile words in it.

    All tests of the session share it, so they only read; `runs` is a copy.
    """
    folder = common / "trained"
    with FileLock(common / "trained.lock"):
        if not (folder / "done").exists():
            folder.mkdir(exist_ok=True)
            _train(folder)
            (folder / "done").touch()
    return folder / "runs"


def _train(folder: Path) -> None:
    text = folder / "text.txt"
    lines = (
        "구글에서 시니어 엔지니어를 채용합니다.",
        "The little dog ran to the edge of the water.",
        "<b>bold</b> & co.",
    )
    text.write_text("\n".join(lines[n % 3] + f" {n}" for n in range(6000)), encoding="utf-8")
    sizes = ("n_layer=2", "n_head=2", "n_embd=32", "block_size=32")
    settings = [part for size in sizes for part in ("--set", f"model.{size}")]
    command = [sys.executable, "-m", "nudge", "train", "--data", str(text), "--tokenizer", "bpe-500", "--steps", "60"]
    command += ["--save-every", "20", "--eval-every", "20", *settings, "--run", str(folder / "runs" / "small")]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=300)


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained runs that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "runs", symlinks=True))


# What lies elsewhere


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
def nudge(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[Any]]:
    """Run the command in a process of its own, in this test's folder: `nudge("sample", "--seed", "1")`."""
    from tests.processes import typed  # which imports what light tests need not wait for

    def run(*args: str, cwd: Path = tmp_path, input: str | bytes | None = None, text: bool = True):
        stdin = input.encode() if isinstance(input, str) else input
        done = typed(cwd, *args, stdin=stdin)
        if text:
            done.stdout, done.stderr = (said.decode() for said in (done.stdout, done.stderr))
        return done

    return run
