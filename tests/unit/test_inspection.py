"""What a checkpoint holds: the tree, the statistics of a tensor, neighbours, differences."""

import dataclasses
import math
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.refusals import refused
from torch import Tensor

from nudge.config import Config, ModelConfig, TrainConfig
from nudge.convert.formats import huggingface
from nudge.data import tokenizer as tokenizers
from nudge.errors import ConfigError
from nudge.look.changes import difference
from nudge.look.inspection import Weights, weights
from nudge.look.parameters import ROLES, Node
from nudge.look.values import neighbours
from nudge.model.gpt import GPT, init_weights
from nudge.model.sizes import parameter_counts
from nudge.runs import checkpoint as checkpoints
from nudge.runs.checkpoint import Checkpoint, RunFolder

MODEL = ModelConfig(n_layer=12, n_head=2, n_embd=8, block_size=6, vocab_size=257)
CONFIG = Config(model=MODEL, train=TrainConfig(batch_tokens=12))


def network(model: ModelConfig = MODEL, seed: int = 0) -> GPT:
    made = GPT(model)
    init_weights(made, seed)
    return made


def saved(folder: Path, step: int = 5, model: ModelConfig = MODEL, seed: int = 0) -> RunFolder:
    run, net = RunFolder(folder), network(model, seed)
    moments = {
        name: {"momentum_buffer": p.detach()}
        if name.endswith("c_fc.weight")
        else {"step": torch.tensor(float(step)), "exp_avg": p.detach(), "exp_avg_sq": p.detach()}
        for name, p in net.named_parameters()
    }
    tokenizer = tokenizers.get("bytes")
    tokenizer.save(run.tokenizer)
    config = dataclasses.replace(CONFIG, model=model)
    checkpoints.save(run, Checkpoint(step=step, config=config, model=net.state_dict(), optimizer=moments))
    return run


def bare(path: Path, tensors: dict[str, Tensor]) -> Weights:
    safetensors.torch.save_file(tensors, path)
    return weights(path)


def all_nodes(node: Node) -> list[Node]:
    return [node, *(inner for child in node.children for inner in all_nodes(child))]


@pytest.mark.parametrize("model", [MODEL, dataclasses.replace(MODEL, rotary=True, untied=True)])
def test_it_counts_what_the_closed_form_counts(tmp_path: Path, model: ModelConfig) -> None:
    found = weights(saved(tmp_path, model=model).path)
    counts = parameter_counts(model)
    assert found.total == counts.total
    expected = {"attention": counts.attention, "mlp": counts.mlp, "norm": counts.norms, "head": counts.head}
    expected["embedding"] = counts.wte + counts.wpe
    assert found.groups == {group: pytest.approx(n / counts.total) for group, n in expected.items() if n}
    assert sum(found.groups.values()) == pytest.approx(1)


def test_the_tree_is_the_learning_materials(tmp_path: Path) -> None:
    tree = weights(saved(tmp_path).path).tree
    assert tree.name == "model weights"
    assert [child.name for child in tree.children] == ["embedding", *(f"blocks.{i}" for i in range(12)), "ln_f"]
    assert [leaf.label for leaf in tree.children[0].children] == ["wte.weight", "wpe.weight"]
    block = tree.children[11]
    assert [(part.name, part.label) for part in block.children] == [
        (f"blocks.10.{part}", part) for part in ("attention", "mlp", "norms")
    ]
    assert [leaf.label for leaf in block.children[0].children] == [
        f"attn.{matrix}.{kind}" for matrix in ("c_attn", "c_proj") for kind in ("weight", "bias")
    ]
    nodes = all_nodes(tree)
    assert len({node.name for node in nodes}) == len(nodes)
    for node in nodes:
        assert node.role == ROLES[node.kind]
        if node.children:
            assert node.n == sum(child.n for child in node.children)
            assert node.share == pytest.approx(sum(child.share for child in node.children))


def test_a_tied_table_says_that_it_is_the_head(tmp_path: Path) -> None:
    tied = weights(saved(tmp_path / "a").path)
    untied = weights(saved(tmp_path / "b", model=dataclasses.replace(MODEL, untied=True)).path)
    assert "head" in tied.parameter("wte.weight").role
    assert "head" not in untied.parameter("wte.weight").role
    assert untied.tree.children[-1].name == "head"


def test_beside_the_weights(tmp_path: Path) -> None:
    run = saved(tmp_path)
    found = weights(run.path)
    kept = {stored.name: (stored.n_tensors, stored.n, stored.n_bytes) for stored in found.optimizer}
    by_muon = 12 * 8 * 32
    n_tensors = len(found.parameters)
    assert kept["momentum_buffer"] == (12, by_muon, 4 * by_muon)
    assert kept["exp_avg"] == kept["exp_avg_sq"] == (n_tensors - 12, found.total - by_muon, 4 * (found.total - by_muon))
    assert kept["step"] == (n_tensors - 12, n_tensors - 12, 4 * (n_tensors - 12))
    assert (found.step, found.tokens_seen, found.config) == (5, 60, CONFIG)
    assert found.n_bytes == run.ckpt.stat().st_size


def test_whether_the_checksum_was_compared_is_said(tmp_path: Path) -> None:
    run = saved(tmp_path)
    assert weights(run.ckpt).checksum == "verified"
    assert weights(run.ckpt).verified
    assert weights(run.ckpt, verify=False).checksum == "not checked"
    assert not weights(run.path, verify=False).verified
    run.index.unlink()
    assert weights(run.ckpt).checksum == "not recorded"


def test_a_damaged_checkpoint_is_passed_over_and_said(tmp_path: Path) -> None:
    run = saved(tmp_path, step=1)
    saved(tmp_path, step=2)
    newest = checkpoints.paths(run)[0]
    newest.write_bytes(newest.read_bytes()[:-100])
    found = weights(run.path)
    assert found.step == 1
    assert newest.name in found.notes[0]


def test_a_hugging_face_file_has_our_names_and_keeps_its_own(tmp_path: Path) -> None:
    net = network()
    huggingface.write(tmp_path, MODEL, net.state_dict(), tokenizers.get("bytes"))
    for source in (tmp_path, tmp_path / "model.safetensors"):
        found = weights(source)
        assert {p.name for p in found.parameters} == set(net.state_dict())
        assert found.parameter("blocks.3.attn.c_attn.weight").stored_as == "transformer.h.3.attn.c_attn.weight"
        assert found.parameter("transformer.wpe.weight").name == "wpe.weight"
        assert (found.step, found.config, found.optimizer, found.verified) == (None, None, (), False)
        assert torch.equal(found.tensor("blocks.3.ln_1.weight"), net.state_dict()["blocks.3.ln_1.weight"])
        assert found.tokenizer().name == "bytes"


def test_a_folder_in_shards(tmp_path: Path) -> None:
    net = network()
    huggingface.write(tmp_path, MODEL, net.state_dict(), tokenizers.get("bytes"))
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(tensors)}
    for shard in set(names.values()):
        safetensors.torch.save_file({n: t for n, t in tensors.items() if names[n] == shard}, tmp_path / shard)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": ' + str(names).replace("'", '"') + "}")
    found = weights(tmp_path)
    assert found.total == parameter_counts(MODEL).total
    assert torch.equal(found.tensor("blocks.11.mlp.c_fc.weight"), net.state_dict()["blocks.11.mlp.c_fc.weight"])


def test_names_that_gpt2_does_not_have(tmp_path: Path) -> None:
    strange = ("model.layers.0.q_proj.weight", "blocks.٣.ln_1.weight", "blocks.00.ln_1.weight", "wte.weight.untied")
    tensors = {name: torch.zeros(2, 3) for name in (*strange, "transformer.wte.weight")}
    tensors |= {"h.0.attn.bias": torch.zeros(1, 1, 4, 4, dtype=torch.uint8), "lm_head.weight": torch.ones(2, 3)}
    found = bare(tmp_path / "a.safetensors", tensors)
    assert {p.name for p in found.parameters if p.group == "other"} == set(strange)
    assert found.tree.children[-1].name == "other"
    assert found.parameter("head.weight").stored_as == "lm_head.weight"
    (masks,) = found.stored
    assert (masks.name, masks.n, masks.n_bytes, masks.dtype) == ("mask", 16, 16, "uint8")
    assert found.total == 6 * 6


def test_two_names_of_one_parameter_stay_two(tmp_path: Path) -> None:
    names = ("transformer.wte.weight", "wte.weight", "transformer.h.0.ln_1.bias", "h.0.ln_1.bias")
    found = bare(tmp_path / "a.safetensors", {name: torch.full((2,), float(i)) for i, name in enumerate(names)})
    assert len({p.name for p in found.parameters}) == 4
    assert {p.stored_as for p in found.parameters} == set(names)
    assert found.tensor("wte.weight")[0] == 1


@pytest.mark.parametrize(
    ("name", "hint"), [("wte.wieght", "'wte.weight'"), ("wpe", "'wpe.weight'"), ("zzzzzzz", "nudge inspect")]
)
def test_an_unknown_name_comes_with_the_nearest(tmp_path: Path, name: str, hint: str) -> None:
    code = "unknown_parameter" if hint == "nudge inspect" else "misspelled_parameter"
    with refused(f"checkpoint.{code}", name=name) as caught:
        weights(saved(tmp_path).path).tensor(name)
    assert hint in caught.value.hint
    assert len(caught.value.hint) < 300


VALUES = st.lists(st.floats(width=32) | st.sampled_from([0.0, 1.0, math.inf, math.nan]), max_size=40)


@given(values=VALUES, bins=st.integers(1, 60))
def test_a_histogram_is_of_all_finite_values(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], bins: int
) -> None:
    tensor = torch.tensor(values, dtype=torch.float32)
    histogram = bare(tmp_path_factory.mktemp("h") / "a.safetensors", {"w": tensor}).histogram("w", bins)
    finite = tensor[tensor.isfinite()].double()
    assert (histogram.n, histogram.n_not_finite) == (len(values), len(values) - len(finite))
    assert len(histogram.counts) == bins == len(histogram.edges) - 1
    assert sum(histogram.counts) == len(finite)
    if len(finite):
        assert (histogram.low, histogram.high) == (finite.min().item(), finite.max().item())
        largest = finite.abs().max().item()
        assert histogram.mean == pytest.approx(finite.mean().item(), rel=1e-9, abs=1e-9 * largest)
        assert histogram.std == pytest.approx(finite.std(correction=0).item(), rel=1e-6, abs=1e-9 * largest)
        assert histogram.norm == pytest.approx(finite.norm().item(), rel=1e-9)
    else:
        assert all(math.isnan(value) for value in (histogram.low, histogram.high, histogram.mean, histogram.std))


def test_a_histogram_of_many_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    found = bare(tmp_path / "a.safetensors", {"w": tensor})
    whole = found.histogram("w")
    monkeypatch.setattr("nudge.look.values.PIECE", 7)
    pieces = found.histogram("w")
    assert pieces.counts == whole.counts
    assert pieces.std == pytest.approx(whole.std)
    assert list(whole.counts) == torch.histc(tensor.double(), 51).tolist()


def test_the_same_value_everywhere_is_in_the_middle(tmp_path: Path) -> None:
    histogram = bare(tmp_path / "a.safetensors", {"w": torch.ones(9)}).histogram("w", bins=3)
    assert histogram.counts == (0, 9, 0)
    assert histogram.std == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int8, torch.bool])
def test_other_types(tmp_path: Path, dtype: torch.dtype) -> None:
    found = bare(tmp_path / "a.safetensors", {"w": torch.tensor([0.0, 1.0, 1.0]).to(dtype)})
    assert found.parameters[0].dtype == str(dtype).removeprefix("torch.")
    assert found.histogram("w").mean == pytest.approx(2 / 3)


def test_neighbours_are_by_angle(monkeypatch: pytest.MonkeyPatch) -> None:
    table = torch.tensor([[1.0, 0.0], [0.0, 0.0], [9.0, 1.0], [-1.0, 0.0], [math.nan, 1.0], [0.0, 2.0], [1e38, 1e37]])
    expected = [(6, 10 / math.sqrt(101)), (2, 9 / math.sqrt(82)), (5, 0.0), (3, -1.0)]
    for piece in (2**20, 3):
        monkeypatch.setattr("nudge.look.values.PIECE", piece)
        found = neighbours(table, 0, k=10)
        assert [(n.token, n.cosine) for n in found] == [(token, pytest.approx(c, abs=1e-6)) for token, c in expected]
    assert [n.token for n in neighbours(table, 0, k=2)] == [6, 2]
    assert neighbours(table, 1) == neighbours(table, 4) == ()  # zero, not finite: no direction


@pytest.mark.parametrize(("table", "token"), [(torch.ones(3, 2), 3), (torch.ones(3, 2), -1), (torch.ones(3), 0)])
def test_neighbours_of_no_row(table: Tensor, token: int) -> None:
    with pytest.raises(ConfigError):
        neighbours(table, token)


def test_a_difference_is_what_was_added(tmp_path: Path) -> None:
    before = {"wte.weight": torch.ones(4, 4), "wpe.weight": torch.zeros(2, 4), "ln_f.bias": torch.zeros(4)}
    before |= {"blocks.0.ln_1.weight": torch.ones(4), "blocks.0.attn.c_proj.weight": torch.full((4, 4), 2.0)}
    after = {name: tensor.clone() for name, tensor in before.items()}
    after["wte.weight"][0, 0] += 2
    after["wpe.weight"] += 1
    after["blocks.0.attn.c_proj.weight"] *= 1.5
    found = difference(bare(tmp_path / "a.safetensors", before), bare(tmp_path / "b.safetensors", after))
    assert {c.name: (c.relative, c.largest) for c in found.changes} == {
        "wte.weight": (pytest.approx(2 / 4), 2.0),
        "wpe.weight": (math.inf, 1.0),
        "ln_f.bias": (0.0, 0.0),
        "blocks.0.ln_1.weight": (0.0, 0.0),
        "blocks.0.attn.c_proj.weight": (pytest.approx(0.5), 1.0),
    }
    assert found.parts == {"wte": pytest.approx(0.5), "wpe": math.inf, "attention": pytest.approx(0.5), "norms": 0.0}
    assert found.total == pytest.approx(math.sqrt((4 + 8 + 16) / (16 + 64 + 4)))


def test_a_difference_lists_what_only_one_side_has(tmp_path: Path) -> None:
    both = {"wpe.weight": torch.ones(2, 4)}
    a = bare(tmp_path / "a.safetensors", {"wte.weight": torch.ones(4, 4), "old": torch.ones(1), **both})
    b = bare(tmp_path / "b.safetensors", {"wte.weight": torch.ones(5, 4), "new": torch.ones(1), **both})
    found = difference(a, b)
    assert ([change.name for change in found.changes], found.total) == (["wpe.weight"], 0)
    assert (found.only_before, found.only_after) == (("old",), ("new",))
    assert found.other_shape == (("wte.weight", (4, 4), (5, 4)),)


def test_a_difference_with_nan_says_so(tmp_path: Path) -> None:
    a = bare(tmp_path / "a.safetensors", {"w": torch.ones(3)})
    b = bare(tmp_path / "b.safetensors", {"w": torch.tensor([1.0, math.nan, 1.0])})
    (change,) = difference(a, b).changes
    assert math.isnan(change.relative)
    assert math.isnan(change.largest)


def test_a_run_against_its_own_export(tmp_path: Path) -> None:
    run = saved(tmp_path / "run")
    huggingface.write(tmp_path / "hf", MODEL, network().state_dict(), tokenizers.get("bytes"))
    found = difference(weights(run.path), weights(tmp_path / "hf"))
    assert len(found.changes) == len(weights(run.path).parameters)
    assert found.total == 0
