"""llm.c's C program train_gpt2 as a contender in training.

Its Makefile builds it in a temporary copy of a checkout, after batch and context, which are constants, are set in the
source. It trains a checkpoint with the benchmark's sizes, which we write in its format. Between its turns it is stopped
(SIGSTOP), and the interrupted update does not count.
Source of the formats: llm.c's train_gpt2.c, train_gpt2.py and llmc/dataloader.h.
"""

import atexit
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from nudge.bench.peers import NotHereError, Prepared, checkout, peak_bytes
from nudge.config import from_dict
from nudge.convert.formats import llmc as formats
from nudge.model.gpt import GPT, init_weights

_TOOK = re.compile(r"step (\d+): train loss (\S+) \(took ([\d.]+) ms\)")
_LAST_STEP = 18  # before update 20 it writes a sample, which takes 63 forward passes
_MOST_STEPS = 8  # per round


def llmc(*, config: dict[str, Any], batch: int, threads: int, turn_s: float, folder: str, work: str) -> Prepared:
    """Build llm.c, write its input files and start it. Raises: NotHereError."""
    model = from_dict(config).model
    home = Path(work) / "llm.c"
    build(Path(folder), home, batch=batch, context=model.block_size)
    network = GPT(model)
    init_weights(network, seed=0)
    formats.write_checkpoint(home / "gpt2_124M.bin", model, network.state_dict())
    data = home / "dev" / "data" / "tinyshakespeare"
    data.mkdir(parents=True)
    for name in ("train", "val"):
        write_tokens(data / f"tiny_shakespeare_{name}.bin", model.vocab_size, 50 * batch * model.block_size + 1)
    program = Program(home)
    step_ms = 0.0

    def run_round() -> Mapping[str, float]:
        nonlocal step_ms
        if not step_ms:
            (step_ms,) = program.run_updates(1)
        count = min(_MOST_STEPS, max(1, round(1000 * turn_s / step_ms)))
        seconds = sum(program.run_updates(count)) / 1000
        return {
            "tokens_per_s": count * batch * model.block_size / seconds,
            "updates": float(count),
            "peak_bytes": float(peak_bytes(program.process.pid)),
        }

    return f"{checkout('llm.c', folder)}, float32, OpenMP", run_round


def build(folder: Path, home: Path, *, batch: int, context: int) -> None:
    """Build train_gpt2 in `home` for this batch and context. Raises: NotHereError."""
    if sys.platform == "win32":
        raise NotHereError("llm.c is paused and continued by signals that Windows does not have")
    if not (folder / "train_gpt2.c").is_file():
        raise NotHereError(f"no train_gpt2.c in {folder}: give --llmc the folder of an llm.c checkout")
    shutil.copytree(folder / "llmc", home / "llmc")
    shutil.copy(folder / "Makefile", home)
    source = (folder / "train_gpt2.c").read_text(encoding="utf-8")
    for name, value in (("B", batch), ("T", context)):
        source, found = re.subn(rf"\bint {name} = \d+;", f"int {name} = {value};", source)
        if found != 1:
            raise NotHereError(f"{folder}/train_gpt2.c does not set {name} where it is expected")
    (home / "train_gpt2.c").write_text(source, encoding="utf-8")
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("clang", "gcc", "cc")), None)
    if compiler is None or not shutil.which("make"):
        raise NotHereError("llm.c needs make and a C compiler")
    made = subprocess.run(["make", "train_gpt2", f"CC={compiler}"], cwd=home, capture_output=True, text=True)
    if made.returncode:
        raise NotHereError(f"llm.c does not build: {made.stderr.strip().splitlines()[-1]}")
    if "OpenMP found" not in made.stdout or "✗ OpenMP" in made.stdout:
        raise NotHereError(f"{compiler} builds llm.c without OpenMP: set CC to a compiler that has it")


def write_tokens(path: Path, vocab_size: int, n_tokens: int) -> None:
    """Write random tokens in llm.c's format: 256 int32, then uint16. Raises: NotHereError for a large vocabulary."""
    if vocab_size > 1 << 16:
        raise NotHereError(f"llm.c's files hold tokens up to 65,535, this vocabulary has {vocab_size:,}")
    header = np.zeros(256, dtype=np.int32)
    header[:3] = (20240520, 1, n_tokens)
    tokens = np.random.default_rng(0).integers(vocab_size, size=n_tokens).astype(np.uint16)
    path.write_bytes(header.tobytes() + tokens.tobytes())


class Program:
    """A running train_gpt2, in a pseudo-terminal so that its output is not buffered."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process: subprocess.Popen[bytes]
        self._lines: TextIO
        self._start()
        atexit.register(lambda: self.process.kill())

    def _start(self) -> None:
        if sys.platform == "win32":  # where `build` refuses
            raise NotImplementedError
        import pty

        screen, terminal = pty.openpty()
        self.process = subprocess.Popen(["./train_gpt2"], cwd=self.home, stdout=terminal, stderr=terminal)
        os.close(terminal)
        self._lines = os.fdopen(screen, encoding="utf-8", errors="replace")
        self._next_update()  # the first also allocates memory
        self.process.send_signal(signal.SIGSTOP)

    def run_updates(self, count: int) -> list[float]:
        """Run `count` updates and return the milliseconds of each. Restart llm.c before _LAST_STEP."""
        if sys.platform == "win32":  # where `build` refuses
            raise NotImplementedError
        if self.step + 1 + count > _LAST_STEP:
            self.process.kill()
            self.process.wait()
            self._lines.close()
            self._start()
        self.process.send_signal(signal.SIGCONT)
        self._next_update()  # the interrupted one
        took = [self._next_update() for _ in range(count)]
        self.process.send_signal(signal.SIGSTOP)
        return took

    def _next_update(self) -> float:
        printed = ""
        try:
            for line in self._lines:
                if found := _TOOK.match(line):
                    self.step = int(found[1])
                    return float(found[3])
                printed = line.strip() or printed
        except OSError:  # on Linux: the other end of the pseudo-terminal was closed
            pass
        raise RuntimeError(f"train_gpt2 ended: {printed}")
