"""The memory that training is expected to need, part by part, and against what a process takes."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from nudge import recipes
from nudge.config import Config, MachineConfig, ModelConfig, TrainConfig
from nudge.fast.fused_update import why_not_fast
from nudge.model import sizes
from nudge.model.sizes import TrainingMemory

SCRIPT = Path(__file__).parents[2] / "bench" / "memory.py"
TINY, SMALL, XL = (recipes.recipe(name).model for name in ("tiny", "gpt2_small", "gpt2_xl"))


def memory(
    model: ModelConfig = SMALL,
    *,
    tokens: int = 4096,
    passes: int = 2,
    optimizer: str = "adamw",
    processes: int = 1,
    **machine: object,
) -> TrainingMemory:
    """`tokens`: of a pass. `machine`: settings of MachineConfig."""
    train = TrainConfig(
        optimizer=optimizer, micro_batch=tokens // model.block_size, batch_tokens=passes * processes * tokens
    )
    machine = {"dtype": "bfloat16", "update": "eager", **machine}
    return sizes.memory_of_run(Config(model=model, train=train, machine=MachineConfig(**machine)), processes=processes)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a process its own peak")
@pytest.mark.parametrize("update", ["fast", "eager"])
@pytest.mark.parametrize("recipe", ["tiny", "mini_24k"])
def test_the_peak_of_a_process_is_as_forecast(recipe: str, update: str) -> None:
    """Unlike time, memory does not depend on what else the machine does: this is no flaky test."""
    if update == "fast" and (obstacle := why_not_fast("cpu", "float32")):
        pytest.skip(obstacle)
    command = [sys.executable, SCRIPT, "--recipes", recipe, "--updates", update, "--quick"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    header, *lines = ended.stdout.splitlines()
    assert "ratio" in header
    ratios = [float(line.split()[8]) for line in lines]
    assert len(ratios) == 1
    assert ratios == pytest.approx([1.0], abs=0.1)


def test_parts_add_up() -> None:
    found = memory(optimizer="muon", processes=8)
    assert found.total == sum(getattr(found, part.name) for part in fields(found))
    assert found.weights == found.communication == 4 * 124_439_808


def test_muon_keeps_one_number_for_a_hidden_matrix() -> None:
    saved = memory().moments - memory(optimizer="muon").moments
    assert saved == 4 * 12 * 12 * 768**2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shards_divide_what_is_kept_from_update_to_update(dtype: str) -> None:
    whole, part = memory(XL, dtype=dtype), memory(XL, dtype=dtype, shard=True, processes=8)
    for name in ("weights", "gradients", "moments"):
        assert getattr(part, name) == getattr(whole, name) // 8
    assert part.activations == whole.activations
    assert 0 < part.communication < whole.weights / 4


def test_recomputing_keeps_the_input_of_each_block() -> None:
    plain, again = memory(XL), memory(XL, recompute=True)
    inputs = 4096 * 48 * 1600 * 4
    assert inputs < again.activations < inputs + plain.activations / 40
    assert again.logits == plain.logits


@pytest.mark.parametrize("update", ["fast", "eager"])
def test_one_pass_needs_less_than_several(update: str) -> None:
    assert memory(update=update, passes=1).total < memory(update=update).total


def test_the_peak_is_at_the_step_where_passes_are_short() -> None:
    at_the_loss = memory(TINY, optimizer="muon", passes=1)
    at_the_step = memory(TINY, tokens=64, optimizer="muon", passes=1)
    assert (at_the_loss.gradients, at_the_loss.scratch) == (0, 0)
    assert (at_the_step.activations, at_the_step.logits) == (0, 0)
    assert at_the_step.gradients > 0 < at_the_step.scratch
