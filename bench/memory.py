"""The memory that training needs, forecast and measured: a table with a line per case.

    python bench/memory.py [--recipes tiny,mini_24k,gpt2_small] [--updates fast,eager] [--holes]

Each case runs in its own process, so that nothing of the previous one is left. Measured is the peak of resident
memory over two updates, minus the memory after one update with the network deleted: by then the program's code is in
memory, and so are the kernels that oneDNN compiles for each shape (10 to 20 MB in bfloat16). Linux only. Memory does
not depend on the load of the machine, so one measurement per case is enough.

For this measurement glibc maps each block separately. By default it takes blocks below 32 MB from a heap, of which it
can return nothing below a block in use: `--holes` shows how much more memory the same process takes by default.
"""

import argparse
import ctypes
import dataclasses
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from nudge import recipes
from nudge.config import Config, MachineConfig, ModelConfig
from nudge.fast.fused_update import why_not_fast
from nudge.model import sizes
from nudge.model.gpt import GPT, init_weights
from nudge.train.update import make_update

MB = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One training whose memory is measured."""

    recipe: str
    update: str
    dtype: str
    micro_batch: int  # windows per pass
    passes: int = 2  # per update
    optimizer: str = ""  # empty: the recipe's

    def config(self) -> Config:
        """Return the recipe's config, divided into these passes."""
        base = recipes.recipe(self.recipe)
        train = replace(
            base.train,
            micro_batch=self.micro_batch,
            batch_tokens=self.passes * self.micro_batch * base.model.block_size,
            optimizer=self.optimizer or base.train.optimizer,
        )
        return replace(base, train=train, machine=MachineConfig(dtype=self.dtype, update=self.update, device="cpu"))

    def forecast(self) -> sizes.TrainingMemory:
        """Return the memory that nudge expects it to need."""
        return sizes.memory_of_run(self.config())


def peak_of(case: Case) -> int:
    """Return the peak bytes of training a case; call it in a new process."""
    config = case.config()
    _train(config, case, updates=1)
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak (man 5 proc)
    before = _status("VmRSS")
    _train(config, case, updates=2)
    return _status("VmHWM") - before


def _train(config: Config, case: Case, *, updates: int) -> None:
    network = GPT(config.model)
    init_weights(network, seed=0)
    update = make_update(network, config)
    for _ in range(updates):
        loss = torch.zeros(())
        for _ in range(case.passes):
            loss += update.forward_backward(*_windows(config.model, case.micro_batch), 1 / case.passes)
        update.step(1e-4, loss)


def _windows(model: ModelConfig, n: int) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(model.vocab_size, (n, model.block_size + 1), generator=torch.Generator().manual_seed(0))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def _status(key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found, f"no {key} in /proc/self/status"
    return int(found[1]) * 1024


def measured(case: Case, *, holes: bool = False) -> int:
    """Return `peak_of` from a new process."""
    answer = subprocess.run(
        [sys.executable, __file__, "--case", json.dumps(dataclasses.asdict(case))],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ if holes else os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    return int(answer.stdout)


def cases(names: list[str], updates: list[str]) -> list[Case]:
    """Return cases of both dtypes, two sizes of a pass, and one or two passes."""
    windows = {"tiny": (4, 16), "mini_24k": (2, 8), "gpt2_small": (1, 2)}
    found = []
    for name in names:
        few, many = windows[name]
        for update in updates:
            for dtype in ("float32", "bfloat16"):
                if update == "fast" and why_not_fast("cpu", dtype):
                    continue
                case = Case(recipe=name, update=update, dtype=dtype, micro_batch=few)
                found += [case, replace(case, micro_batch=many, passes=1)]
    return found


def main() -> None:
    """Print the table, or (--case) one number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default="tiny,mini_24k,gpt2_small")
    parser.add_argument("--updates", default="fast,eager")
    parser.add_argument("--holes", action="store_true")
    parser.add_argument("--quick", action="store_true", help="one short case only")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        print(peak_of(Case(**given.case)))
        return
    print(f"{'recipe':12} {'update':6} {'dtype':8} {'optim.':6} {'windows':>7} {'passes':>6} ", end="")
    print(f"{'forecast MB':>11} {'measured MB':>11} {'ratio':>6} {'holes MB':>9}")
    chosen = cases(given.recipes.split(","), given.updates.split(","))
    for case in [replace(chosen[0], passes=1)] if given.quick else chosen:
        forecast, peak = case.forecast().total, measured(case)
        holes = f"{(measured(case, holes=True) - peak) / MB:9.1f}" if given.holes else ""
        print(
            f"{case.recipe:12} {case.update:6} {case.dtype:8} {case.config().train.optimizer:6} "
            f"{case.micro_batch:7} {case.passes:6} {forecast / MB:11.1f} "
            f"{peak / MB:11.1f} {forecast / peak:6.3f} {holes}",
            flush=True,
        )


if __name__ == "__main__":
    main()
