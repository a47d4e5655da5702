"""Checkpoints that a stranger made: whatever their tensors and settings claim, nothing is built before the check."""

import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tests.refusals import refused
from torch import Tensor

from nudge import cli
from nudge import config as configs
from nudge.config import Config, ModelConfig
from nudge.data import tokenizer as tokenizers
from nudge.distributed.parallel import load_weights
from nudge.fast import native_loader
from nudge.fast.weights import pack_weights
from nudge.infer import engine
from nudge.look.inspection import weights
from nudge.model.gpt import GPT, init_weights
from nudge.runs import checkpoint as checkpoints
from nudge.runs.checkpoint import FORMAT, PARTS, VERSION

CONFIG = Config(model=ModelConfig(n_layer=2, n_head=2, n_embd=8, block_size=16, vocab_size=257))
Change = Callable[[dict[str, Any]], Any]


def content() -> dict[str, Any]:
    network = GPT(CONFIG.model)
    init_weights(network, seed=0)
    state = network.state_dict()
    return {
        "format": FORMAT,
        "version": VERSION,
        "step": 3,
        "skipped_in_a_row": 0,
        "train_s": 1.5,
        "config": configs.to_dict(CONFIG),
        "model": state,
        "optimizer": {
            name: {"step": torch.tensor(3.0), "exp_avg": tensor.clone(), "exp_avg_sq": tensor.clone()}
            for name, tensor in state.items()
        },
        "rng": torch.get_rng_state(),
        "data_fingerprint": "",
        "tokenizer_sha256": "",
    }


def saved(folder: Path, change: Change = lambda content: None) -> Path:
    made, path = content(), folder / "ckpt.pt"
    change(made)
    torch.save(made, path)
    tokenizers.get("bytes").save(folder / "tokenizer.json")
    return path


def weight(name: str, value: Any) -> Change:
    return lambda content: content["model"].update({name: value})


def moment(name: str, key: str, value: Any) -> Change:
    return lambda content: content["optimizer"][name].update({key: value})


def setting(**values: Any) -> Change:
    return lambda content: content["config"]["model"].update(values)


def every_weight(convert: Callable[[Tensor], Tensor]) -> Change:
    return lambda content: content.update(model={name: convert(t) for name, t in content["model"].items()})


def expanded(vocab_size: int) -> Change:
    """A vocabulary of any size in four bytes."""
    table = torch.ones(1).expand(vocab_size, 8)
    return lambda content: (setting(vocab_size=vocab_size)(content), weight("wte.weight", table)(content))


def test_the_file_that_the_others_are_changed_from_is_read(tmp_path: Path) -> None:
    found = checkpoints.read(saved(tmp_path))
    assert (found.step, found.config) == (3, CONFIG)
    assert engine.load(tmp_path / "ckpt.pt", device="cpu").generate("ab", max_tokens=3) is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_the_size_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    path = saved(tmp_path, every_weight(lambda tensor: tensor.to(dtype)))
    assert checkpoints.read(path).model["wte.weight"].dtype == dtype


def quietly(make: Callable[[], Tensor]) -> Tensor:
    """Make a tensor of a kind that torch warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


QUANTIZED = quietly(lambda: torch.quantize_per_tensor(torch.ones(16, 8), 1, 0, torch.qint8))
NESTED = quietly(lambda: torch.nested.nested_tensor([torch.ones(8), torch.ones(4)]))

HOSTILE = {
    "expanded": (weight("wpe.weight", torch.ones(1).expand(16, 8)), "wpe.weight"),
    "expanded rows": (weight("wpe.weight", torch.ones(16, 1).expand(16, 8)), "wpe.weight"),
    "expanded bias": (weight("blocks.1.attn.c_attn.bias", torch.ones(1).expand(24)), "blocks.1.attn.c_attn.bias"),
    "a vocabulary of 300 million": (expanded(3 * 10**8), "wte.weight"),
    "transposed": (weight("blocks.0.mlp.c_fc.weight", torch.ones(32, 8).t()), "blocks.0.mlp.c_fc.weight"),
    "every second row": (weight("wpe.weight", torch.ones(32, 8)[::2]), "wpe.weight"),
    "sparse": (weight("wpe.weight", torch.ones(16, 8).to_sparse()), "wpe.weight"),
    "meta": (weight("wpe.weight", torch.ones(16, 8, device="meta")), "wpe.weight"),
    "quantized": (weight("wpe.weight", QUANTIZED), "wpe.weight"),
    "nested": (weight("wpe.weight", NESTED), "wpe.weight"),
    "a parameter": (weight("wpe.weight", torch.nn.Parameter(torch.ones(16, 8))), "wpe.weight"),
    "with gradients": (weight("wpe.weight", torch.ones(16, 8).requires_grad_()), "wpe.weight"),
    "negated on reading": (weight("wpe.weight", torch._neg_view(torch.ones(16, 8))), "wpe.weight"),
    "no tensor": (weight("wpe.weight", "text"), "wpe.weight"),
    "integers": (weight("wpe.weight", torch.ones(16, 8).int()), "wpe.weight"),
    "complex": (weight("wpe.weight", torch.ones(16, 8).cfloat()), "wpe.weight"),
    "of another dtype than the rest": (weight("ln_f.bias", torch.ones(8).half()), "ln_f.bias"),
    "too few rows": (weight("wpe.weight", torch.ones(15, 8)), "wpe.weight"),
    "too many rows": (weight("wpe.weight", torch.ones(17, 8)), "wpe.weight"),
    "a single row": (weight("wpe.weight", torch.ones(1, 8)), "wpe.weight"),
    "another number of dimensions": (weight("ln_f.bias", torch.ones(8, 1)), "ln_f.bias"),
    "missing": (lambda content: content["model"].pop("ln_f.bias"), "ln_f.bias"),
    "of no layer": (weight("blocks.2.ln_1.weight", torch.ones(8)), "blocks.2.ln_1.weight"),
    "a billion layers": (setting(n_layer=10**9), "blocks.2.ln_1.weight"),
    "a longer context than positions": (setting(block_size=400), "wpe.weight"),
    "rotary, and positions": (setting(rotary=True), "wpe.weight"),
    "untied without a head": (setting(untied=True), "head.weight"),
    "a moment of another shape": (moment("ln_f.bias", "exp_avg", torch.ones(1)), "ln_f.bias.exp_avg"),
    "a moment that is expanded": (
        moment("wpe.weight", "exp_avg_sq", torch.ones(1).expand(16, 8)),
        "wpe.weight.exp_avg_sq",
    ),
    "a moment of another dtype": (moment("ln_f.bias", "exp_avg", torch.ones(8).double()), "ln_f.bias.exp_avg"),
    "a moment without a tensor": (moment("ln_f.bias", "exp_avg", [1, 2]), "ln_f.bias.exp_avg"),
    "several steps": (moment("ln_f.bias", "step", torch.ones(8)), "ln_f.bias.step"),
    "an unknown moment": (moment("ln_f.bias", "velocity", torch.ones(8)), "ln_f.bias.velocity"),
    "moments of nothing": (lambda content: content["optimizer"].update(w={"step": torch.ones(())}), "w.step"),
}


@pytest.mark.filterwarnings("ignore:TypedStorage")  # torch, of the quantized one
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_tensor_that_does_not_fit_is_named_before_anything_is_built(tmp_path: Path, kind: str) -> None:
    change, name = HOSTILE[kind]
    path = saved(tmp_path, change)
    for read in (checkpoints.read, engine.load, weights):
        with refused("checkpoint.bad_tensor", file="ckpt.pt", name=name):
            read(path)


def test_a_prompt_does_not_reach_memory_that_the_file_does_not_have(tmp_path: Path, capsys: Any) -> None:
    """400 positions in the place of one: reading the 390th ended the process."""
    path = saved(
        tmp_path, lambda c: (setting(block_size=400)(c), weight("wpe.weight", torch.ones(1).expand(400, 8))(c))
    )
    with pytest.raises(SystemExit) as exited:
        cli.main(["sample", str(path), "--prompt", "a" * 390, "--max-tokens", "1"])
    assert exited.value.code == 2
    assert "wpe.weight" in capsys.readouterr().err


@pytest.mark.parametrize(
    "values",
    [
        {"n_head": 0},
        {"n_head": 3},
        {"n_head": -2},
        {"n_layer": 0},
        {"n_layer": -1},
        {"n_embd": 0},
        {"block_size": -2},
        {"block_size": 0},
        {"vocab_size": -257},
        {"vocab_size": "257 or so"},
        {"vocab_size": 10**600},
        {"vocab_size": float("nan")},
        {"vocab_size": torch.ones(2)},
        {"n_embd": [8]},
        {"depth": 2},
        {"rotary": True, "n_head": 8},
    ],
    ids=lambda values: "-".join(values),
)
def test_a_config_that_no_network_can_have(tmp_path: Path, values: dict[str, Any]) -> None:
    path = saved(tmp_path, setting(**values))
    for read in (checkpoints.read, engine.load, weights):
        with refused("checkpoint.bad_config", file="ckpt.pt"):
            read(path)


@pytest.mark.parametrize("value", [None, 3, [], {"model": 3}, {"train": {"lr": -1.0}}, {"save": {"every": 0}}, {7: 7}])
def test_other_settings_out_of_their_ranges(tmp_path: Path, value: Any) -> None:
    path = saved(tmp_path, lambda content: content.update(config=value))
    with refused("checkpoint.bad_config", file="ckpt.pt"):
        checkpoints.read(path)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("step", "3", "bad_value"),
        ("step", -1, "bad_value"),
        ("step", True, "bad_value"),
        ("step", 10**30, "bad_value"),
        ("step", torch.ones(2), "bad_value"),
        ("skipped_in_a_row", 0.5, "bad_value"),
        ("train_s", float("nan"), "bad_value"),
        ("data_fingerprint", 7, "bad_value"),
        ("tokenizer_sha256", None, "bad_value"),
        ("rng", torch.ones(1).expand(5056), "incomplete"),
        ("rng", torch.zeros(5056, dtype=torch.uint8), "incomplete"),
        ("rng", torch.zeros(3, dtype=torch.uint8), "incomplete"),
        ("rng", "seed", "incomplete"),
        ("model", [torch.ones(2)], "not_tensors"),
        ("model", {7: torch.ones(2)}, "not_tensors"),
        ("optimizer", [1], "not_tensors"),
        ("optimizer", {"wte.weight": [1]}, "not_tensors"),
        ("version", torch.ones(2), "not_a_checkpoint"),
        ("version", 2, "other_version"),
    ],
)
def test_values_of_another_kind(tmp_path: Path, name: str, value: Any, code: str) -> None:
    path = saved(tmp_path, lambda content: content.update({name: value}))
    with refused(f"checkpoint.{code}", file="ckpt.pt"):
        checkpoints.read(path)


def test_many_tensors_in_the_same_bytes(tmp_path: Path) -> None:
    table = torch.ones(257 * 4 * 8)

    def share(content: dict[str, Any]) -> None:
        content["config"]["model"]["n_layer"] = 200
        network = GPT(configs.from_dict(content["config"]).model)
        shared = {name: table[: tensor.numel()].view(tensor.shape) for name, tensor in network.state_dict().items()}
        content.update(model=shared, optimizer=None)

    path = saved(tmp_path, share)
    for read in (checkpoints.read, engine.load, weights):
        with refused("checkpoint.larger_than_file", n_bytes=path.stat().st_size):
            read(path)


def test_a_file_that_unpacks_to_more_than_itself(tmp_path: Path) -> None:
    whole = saved(tmp_path, lambda content: content.update(padding="\0" * 10**7))
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in source.infolist():
            packed.writestr(entry.filename, source.read(entry))
    assert bomb.stat().st_size < 10**6
    with refused("checkpoint.larger_than_file", file="bomb.pt", n_bytes=bomb.stat().st_size):
        checkpoints.read(bomb)


def in_parts(folder: Path, **rows: list[tuple[int, int]]) -> Path:
    """A checkpoint of two files; `rows`: where a tensor begins in each file and how many rows it has there."""
    path = folder / "step_00000003.parts"
    path.mkdir()
    made = content()
    for number in (0, 1):
        tensors = {} if number else {f"model.{name}": tensor for name, tensor in made["model"].items()}
        offsets = {name: {"saved_offsets": [0] * tensor.dim()} for name, tensor in tensors.items()}
        for name, begins in rows.items():
            full = f"model.{name.replace('__', '.')}"
            start, n_rows = begins[number]
            tensors[full] = torch.ones(n_rows, 8)
            offsets[full] = {"saved_offsets": [start, 0]}
        metadata = {"format": "pt", "DCP_SHARDING_INFO": json.dumps(offsets)}
        safetensors.torch.save_file(tensors, path / f"shard-{number + 1:05d}.safetensors", metadata=metadata)
    names = ("model", "optimizer", "rng")
    header = {name: value for name, value in made.items() if name not in names}
    sums = {file.name: {"sha256": "", "n_bytes": 0} for file in path.glob("*.safetensors")}
    (path / PARTS).write_text(json.dumps({**header, "files": sums}))
    return path


def test_parts_that_follow_each_other_make_a_tensor(tmp_path: Path) -> None:
    path = in_parts(tmp_path, wpe__weight=[(0, 10), (10, 6)])
    assert torch.equal(checkpoints.read(path, verify=False).model["wpe.weight"], torch.ones(16, 8))


@pytest.mark.parametrize(
    "rows",
    [
        [(0, 10), (11, 5)],
        [(0, 10), (9, 7)],
        [(0, 10), (10**12, 6)],
        [(0, 10), (0, 10)],
        [(1, 10), (11, 5)],
    ],
    ids=["a gap", "an overlap", "far away", "twice", "without a beginning"],
)
@pytest.mark.parametrize("tensors", [True, False])
def test_parts_that_make_no_whole_tensor(tmp_path: Path, rows: list[tuple[int, int]], tensors: bool) -> None:
    path = in_parts(tmp_path, wpe__weight=rows)
    with refused("checkpoint.parts_overlap", name="model.wpe.weight"):
        checkpoints.read(path, verify=False, tensors=tensors)


def test_parts_of_another_size_than_the_config_says(tmp_path: Path) -> None:
    path = in_parts(tmp_path, wpe__weight=[(0, 10), (10, 7)])
    with refused("checkpoint.bad_tensor", name="wpe.weight"):
        checkpoints.read(path, verify=False)


def test_weights_of_another_shape_are_not_repeated() -> None:
    network = GPT(CONFIG.model)
    state = {**network.state_dict(), "wpe.weight": torch.ones(1, 8)}
    with refused("checkpoint.other_shape", name="wpe.weight", got=[1, 8], expected=[16, 8]):
        load_weights(network, state.items())


def test_the_kernels_get_addresses_of_whole_tensors() -> None:
    network = GPT(CONFIG.model)
    init_weights(network, seed=0)
    network.wpe.weight.data = torch.ones(1).expand(16, 8)
    try:
        packed = pack_weights(network)
    except native_loader.UnavailableError as error:
        pytest.skip(str(error))
    assert packed.wpe.is_contiguous()
    assert packed.wpe.untyped_storage().nbytes() >= packed.wpe.nbytes
