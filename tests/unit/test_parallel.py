"""How a network is divided: what each of 128 processes keeps, also where there is less than a row for each."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.fault.test_processes import ROUNDING, TEXT, furthest, options
from tests.processes import FORKS, free_port, losses, run

from nudge import recipes
from nudge.config import Config, MachineConfig
from nudge.distributed.parallel import divide_work, empty_network, local_rows, row_span, whole_matrices
from nudge.distributed.rendezvous import rendezvous
from nudge.distributed.world import World
from nudge.model.sizes import memory_of_run, parameter_counts
from nudge.train.update import AutogradUpdate

N_RANKS = 128
Shares = dict[
    str, tuple[tuple[int, ...], slice, tuple[int, ...]]
]  # by parameter: its shape, row_span, and what is here


def config(recipe: str, device: str, **model: int) -> Config:
    chosen = recipes.recipe(recipe)
    machine = replace(chosen.machine, shard=True, device=device, update="eager", dtype="float32")
    return replace(chosen, model=replace(chosen.model, **model), machine=machine)


def _as_rank(rank: int, config: Config, work: Callable) -> object:
    """What `work` gives in one process of a group whose others do not exist: what it sends is lost."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group(backend="fake", rank=rank, world_size=N_RANKS, store=FakeStore())
    try:
        world = World(rank=rank, size=N_RANKS, device="cpu")
        return work(config, world)
    finally:
        dist.destroy_process_group()


def _shares(config: Config, world: World) -> Shares:
    return {
        name: (tuple(parameter.shape), row_span(parameter), tuple(local_rows(parameter).shape))
        for name, parameter in empty_network(config, world).named_parameters()
    }


def _gradients_fit(config: Config, world: World) -> bool:
    """Whether a pass leaves gradients of the rows that are here; their values mean nothing."""
    network = empty_network(config, world)
    update = AutogradUpdate(network, config, world)
    tokens = torch.zeros(1, config.model.block_size, dtype=torch.long)
    update.forward_backward(tokens, tokens, 1.0)
    return all(
        parameter.grad is not None and local_rows(parameter.grad).shape == local_rows(parameter).shape
        for parameter in network.parameters()
    )


@pytest.fixture
def elsewhere() -> Iterator[ProcessPoolExecutor]:
    """A process of its own for the fake group, which no other test should meet."""
    with ProcessPoolExecutor(1, mp_context=FORKS) as pool:
        yield pool


@pytest.mark.slow
def test_128_processes_keep_one_gpt2_xl_among_them(elsewhere: ProcessPoolExecutor) -> None:
    """Its 48 blocks are divided alike, so one of them stands for all: that takes seconds, not minutes."""
    xl = recipes.recipe("gpt2_xl").model
    assert parameter_counts(xl).total == 1_557_611_200
    one_block = config("gpt2_xl", "meta", n_layer=1)
    numbers = []  # in each process
    for rank in range(N_RANKS):
        shares: Shares = elsewhere.submit(_as_rank, rank, one_block, _shares).result()
        for name, (shape, span, here) in shares.items():
            assert here == (len(range(shape[0])[span]), *shape[1:]), f"{name} in process {rank}"
        numbers.append(
            sum(
                torch.Size(here).numel() * (xl.n_layer if name.startswith("blocks.") else 1)
                for name, (_, _, here) in shares.items()
            )
        )
    assert sum(numbers) == parameter_counts(xl).total  # each number is in one process
    # 1600 rows are 13 for each of 123 processes, 1 for one more and none for four: FSDP2 pads them to 13 for everyone.
    forecast = memory_of_run(config("gpt2_xl", "cpu"), processes=N_RANKS).weights
    assert max(numbers) == numbers[0] == 12_476_794
    assert 4 * numbers[0] == pytest.approx(forecast, rel=0.03)
    assert numbers[-1] < numbers[0] / 2


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1, 127])
def test_the_whole_gpt2_xl_is_divided_as_one_block_of_it_is(rank: int, elsewhere: ProcessPoolExecutor) -> None:
    whole: Shares = elsewhere.submit(_as_rank, rank, config("gpt2_xl", "meta"), _shares).result()
    numbers = sum(torch.Size(here).numel() for _, _, here in whole.values())
    assert numbers == {0: 12_476_794, 1: 12_476_794, 127: 4_408_800}[rank]


@pytest.mark.slow
def test_where_there_are_fewer_rows_than_processes_some_keep_none(elsewhere: ProcessPoolExecutor) -> None:
    small = config("tiny", "cpu", n_layer=1, n_head=2, n_embd=8, block_size=16, vocab_size=50)
    kept: dict[str, int] = {}
    for rank in range(N_RANKS):
        shares: Shares = elsewhere.submit(_as_rank, rank, small, _shares).result()
        for name, (shape, span, here) in shares.items():
            assert here == (len(range(shape[0])[span]), *shape[1:]), f"{name} in process {rank}"
            kept[name] = kept.get(name, 0) + here[0]
    assert kept == {name: shape[0] for name, (shape, _, _) in shares.items()}
    assert sum(here[0] for _, _, here in shares.values()) == 0  # the last process has nothing at all
    for rank in (0, 9, 127):
        assert elsewhere.submit(_as_rank, rank, small, _gradients_fit).result()


def _exchange(rank: int, size: int, port: int) -> None:
    """Compare `divide_work` and `whole_matrices` with what one process makes of the same stacks."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in place.items()}, MASTER_ADDR="127.0.0.1")
    with rendezvous(MachineConfig(timeout_s=30)) as world:
        for n_items in (1, 2, 3, 4, 5, 7):
            for n_rows in (1, 2, 3, 4, 5, 11):
                stack = torch.arange(n_items * n_rows * 2.0).reshape(n_items, n_rows, 2)
                worked_on = []

                def work(items: torch.Tensor, worked_on: list[int] = worked_on) -> torch.Tensor:
                    worked_on.append(len(items))
                    return (items * 2).to(torch.float64)

                found = divide_work(work, stack, world)
                assert torch.equal(found, (stack * 2).to(torch.float64)), (n_items, n_rows)
                assert sum(world.gather(sum(worked_on))) == n_items  # nothing is worked on twice
                each = -(-n_rows // size)
                mine = stack[:, rank * each : (rank + 1) * each]
                assert torch.equal(whole_matrices(mine, n_rows, world), stack), (n_items, n_rows)


@pytest.mark.slow
def test_stacks_of_any_shape_are_exchanged_whole() -> None:
    port = free_port()
    processes = [FORKS.Process(target=_exchange, args=(rank, 3, port)) for rank in range(3)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()
            process.join()


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_process_without_a_row_of_most_parameters_makes_the_same_updates(optimizer: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    # 4 rows are 2, 2 and none for 3 processes; one block gives Muon stacks of one matrix.
    small = {
        "model.n_layer": 1,
        "model.n_embd": 4,
        "train.batch_tokens": 192,
        "train.steps": 6,
        "machine.update": "eager",
    }
    settings = options(tmp_path / "text.txt", **small, **{"train.optimizer": optimizer})
    run(tmp_path, 1, "train", *settings, "--run", "alone")
    run(tmp_path, 3, "train", *settings, "--set=machine.shard=true", "--run", "run")
    assert furthest(losses(tmp_path / "alone"), losses(tmp_path / "run")) < ROUNDING
    run(tmp_path, 3, "resume", "run", "--steps", "8")
    assert ("Step", 8) in losses(tmp_path / "run")
