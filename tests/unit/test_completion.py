"""Completion in real interactive shells: what Tab makes of the start of a word."""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.waiting import LONG_S

pytestmark = pytest.mark.slow
COMPLETED = [
    ("nudge train --recipe mini", "nudge train --recipe mini_24k"),
    ("nudge plan gpt2_x", "nudge plan gpt2_xl"),
    ("nudge plan --gpu h10", "nudge plan --gpu h100"),
    ("nudge launch --gpu b2", "nudge launch --gpu b200"),
    ("nudge train --set train.weight", "nudge train --set train.weight_decay="),
    ("nudge sample --dtype b", "nudge sample --dtype bfloat16"),
    ("nudge inspect runs/shake", "nudge inspect runs/shakespeare/"),
    ("nudge inspect runs/한글", r"nudge inspect runs/한글\ 폴더/"),
    ("nudge train --data my_te", "nudge train --data my_text.txt"),
    ("nudge train --data two", r"nudge train --data two\ words.txt"),
    ("nudge train --data 내", "nudge train --data 내_글.txt"),
    ("nudge comp", "nudge completion"),
]
SETUP = {  # the command that starts a shell without a person's settings, and what is typed first
    "bash": (["bash", "--norc", "-i"], "source <(nudge completion bash); bind 'set bell-style none'"),
    "zsh": (
        ["zsh", "-f", "-i"],
        "unsetopt beep prompt_sp; autoload -U compinit; compinit -D; source <(nudge completion zsh)",
    ),
}
TypeLine = Callable[[str], str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs and texts, also with names that a shell must quote."""
    home = tmp_path_factory.mktemp("home")
    for name in ("shakespeare", "한글 폴더"):
        (home / "runs" / name).mkdir(parents=True)
    for name in ("my_text.txt", "two words.txt", "내_글.txt"):
        (home / name).touch()
    return home


def environment() -> dict[str, str]:
    folder = str(Path(sys.executable).parent)
    path = f"{folder}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PS1": "READY", "TERM": "dumb", "LC_ALL": "C.UTF-8", "XDG_CONFIG_HOME": "none"}


@pytest.fixture(scope="module", params=SETUP)
def shell(request: pytest.FixtureRequest, home: Path) -> Iterator[TypeLine]:
    """Yield a function that types a line and Tab, and returns the line as the shell then has it."""
    command, setup = SETUP[request.param]
    if not shutil.which(request.param):
        pytest.skip(f"needs {request.param}")
    process, terminal = pytest.importorskip("pty", reason="needs a pseudo-terminal").fork()
    if process == 0:
        os.chdir(home)
        os.execvpe(command[0], command, environment())

    def read(until: str) -> str:
        got, limit = b"", time.monotonic() + LONG_S
        while until.encode() not in got and time.monotonic() < limit:
            if select.select([terminal], [], [], 0.1)[0]:
                got += os.read(terminal, 65536)
        assert until.encode() in got, got
        return got.decode()

    def type_line(text: str) -> str:
        os.write(terminal, text.encode() + b"\t")
        time.sleep(1.0)  # Tab answers nothing if nothing matches
        os.write(terminal, b"\x01echo '<\x05>'\r")  # Ctrl-A, Ctrl-E: the line becomes the argument of echo
        shown = read(">\r\n")
        return re.findall(r"<(nudge .*?)>\r\n", shown)[-1]

    read("READY")
    os.write(terminal, f"{setup}; echo 'SET'UP\r".encode())
    read("SETUP")
    yield type_line
    os.kill(process, signal.SIGKILL)
    os.close(terminal)
    os.waitpid(process, 0)


@pytest.mark.parametrize(("typed", "completed"), COMPLETED)
def test_tab(shell: TypeLine, typed: str, completed: str):
    line = shell(typed)
    assert line.rstrip(" /") == completed.rstrip("/")  # zsh takes its slash back when the cursor moves
    assert not line.endswith("= ")


@pytest.mark.skipif(not shutil.which("fish"), reason="needs fish")
@pytest.mark.parametrize(("typed", "completed"), COMPLETED)
def test_tab_in_fish(home: Path, typed: str, completed: str):
    """Fish itself says what it would propose; it quotes a name when it puts it into the line."""
    script = "nudge completion fish | source; complete --do-complete $argv[1]"
    command = ["fish", "--no-config", "-c", script, typed]
    proposed = subprocess.run(command, cwd=home, env=environment(), capture_output=True, text=True, check=True).stdout
    before = typed.rpartition(" ")[0]
    lines = [f"{before} {line.partition(chr(9))[0]}" for line in proposed.splitlines()]
    assert completed.replace("\\", "") in lines
    if " --" in typed or typed.count(" ") > 1:
        assert len(lines) == 1
