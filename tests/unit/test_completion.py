"""Completion in a real interactive bash: what Tab makes of the start of a word."""

import os
import pty
import re
import select
import shutil
import sys
import time
from pathlib import Path

import pytest
from tests.waiting import LONG_S

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("bash"), reason="needs bash"),
]
COMPLETED = [
    ("nudge train --recipe mini", "nudge train --recipe mini_24k "),
    ("nudge plan gpt2_x", "nudge plan gpt2_xl "),
    ("nudge plan --gpu h10", "nudge plan --gpu h100 "),
    ("nudge launch --gpu b2", "nudge launch --gpu b200 "),
    ("nudge train --set train.weight", "nudge train --set train.weight_decay="),
    ("nudge sample --dtype b", "nudge sample --dtype bfloat16 "),
    ("nudge inspect runs/shake", "nudge inspect runs/shakespeare/"),
    ("nudge train --data my_te", "nudge train --data my_text.txt "),
    ("nudge comp", "nudge completion "),
]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory):
    """Yield a function that types a line and Tab, and returns the line as bash then has it."""
    home = tmp_path_factory.mktemp("home")
    (home / "runs" / "shakespeare").mkdir(parents=True)
    (home / "my_text.txt").touch()
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(home)
        folder = str(Path(sys.executable).parent)
        environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "PS1": "READY", "TERM": "dumb"}
        os.execvpe("bash", ["bash", "--norc", "-i"], environment)

    def read(until: str) -> str:
        got, limit = "", time.monotonic() + LONG_S
        while until not in got and time.monotonic() < limit:
            if select.select([terminal], [], [], 0.1)[0]:
                got += os.read(terminal, 65536).decode()
        assert until in got, got
        return got

    def type_line(text: str) -> str:
        os.write(terminal, text.encode() + b"\t")
        time.sleep(1.0)  # Tab answers nothing if nothing matches
        os.write(terminal, b"\x01echo '<\x05>'\r")  # Ctrl-A, Ctrl-E: the line becomes the argument of echo
        shown = read(">\r\n")
        return re.findall(r"<(nudge .*?)>\r\n", shown)[-1]

    read("READY")
    os.write(terminal, b"source <(nudge completion bash); bind 'set bell-style none'; echo 'SET'UP\r")
    read("SETUP")
    yield type_line
    os.close(terminal)
    os.waitpid(process, 0)


@pytest.mark.parametrize(("typed", "completed"), COMPLETED)
def test_tab(shell, typed: str, completed: str) -> None:
    assert shell(typed).rstrip() == completed.rstrip()
