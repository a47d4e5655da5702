from pathlib import Path

import numpy as np
import pytest

from nudge.data.batches import Batches, check_windows, val_windows
from nudge.data.manifest import SplitManifest
from nudge.data.shards import Tokens, write_shard
from nudge.errors import DataError


def make_tokens(folder: Path, n: int, highest: int = 60_000) -> Tokens:
    tokens = (np.arange(n) % highest).astype(np.uint16)
    shard = write_shard(folder, "train_000000.bin", tokens, np.array([n], dtype=np.uint64), text_bytes=n)
    return Tokens(folder, "train", SplitManifest.from_shards([shard]), np.uint16)


def make(tokens: Tokens, **changes: int) -> Batches:
    return Batches(tokens, **{"block_size": 8, "n_sequences": 4, "seed": 1, "vocab_size": 60_000, **changes})


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return make_tokens(tmp_path, 1003)


def test_targets_are_the_inputs_one_token_on(tokens: Tokens):
    batches = make(tokens)
    x, y = batches(0)
    assert x.shape == y.shape == (4, 8)
    assert x.dtype == y.dtype == np.int64
    assert (y == (x + 1) % 1003).all()  # the tokens count up and are read as a circle
    assert x[:, 0].tolist() == [start % 1003 for start in batches.starts(0)]


def test_a_batch_depends_on_its_number_and_the_seed_alone(tokens: Tokens):
    one, two, other = make(tokens), make(tokens), make(tokens, seed=2)
    forwards = [one(step) for step in range(50)]
    backwards = [two(step) for step in reversed(range(50))][::-1]
    assert all((a[0] == b[0]).all() for a, b in zip(forwards, backwards, strict=True))
    assert any((one(step)[0] != other(step)[0]).any() for step in range(3))


def test_the_order_is_fixed_for_all_time(tokens: Tokens):
    """A change here would give resumed runs another text than they began with."""
    assert make(tokens).starts(0) == [1434, 978, 682, 778]
    assert make(tokens).starts(100) == [1095, 855, 1167, 1495]


@pytest.mark.parametrize(("n", "n_sequences"), [(1003, 5), (1003, 7), (1000, 4), (9, 3), (17, 1), (8 * 64, 8)])
def test_an_epoch_reads_every_window_once(tmp_path: Path, n: int, n_sequences: int):
    batches = make(make_tokens(tmp_path, n), n_sequences=n_sequences)
    n_windows = n // 8
    assert batches.n_windows == n_windows
    n_steps = 3 * n_windows // n_sequences + 1
    starts = [start for step in range(n_steps) for start in batches.starts(step)]
    for epoch in range(3):
        inside = starts[epoch * n_windows : (epoch + 1) * n_windows]
        assert len({start % n for start in inside}) == n_windows
        assert {(start - min(inside)) % 8 for start in inside} == {0}


def test_every_epoch_has_its_own_order_and_its_own_cuts(tokens: Tokens):
    batches = make(tokens, n_sequences=125)
    first, second = batches.starts(0), batches.starts(1)
    assert sorted(first) != first
    assert np.argsort(first).tolist() != np.argsort(second).tolist()
    assert len({min(batches.starts(epoch)) for epoch in range(20)}) > 15


def test_two_halves_make_the_whole(tokens: Tokens):
    """However many workers split a global batch, it is the same one."""
    whole, halves = make(tokens, n_sequences=8), make(tokens, n_sequences=4)
    assert whole.starts(5) == halves.starts(10) + halves.starts(11)


@pytest.mark.parametrize(("n", "fitting"), [(1, 1), (8, 2)])  # a power of 2 divides the tokens of most updates
def test_text_that_is_shorter_than_a_window_is_refused(tmp_path: Path, n: int, fitting: int):
    with pytest.raises(DataError) as raised:
        make(make_tokens(tmp_path, n))
    assert raised.value.code == "data.too_short"
    assert raised.value.values == {"split": "train", "n": n, "window": 9, "fitting": fitting}
    with pytest.raises(DataError):
        check_windows(make_tokens(tmp_path, n), 8)
    make(make_tokens(tmp_path, 9))


def test_ids_that_the_model_does_not_have_are_refused(tokens: Tokens):
    batches = make(tokens, vocab_size=900)
    for read in (lambda: [batches(step) for step in range(32)], lambda: list(val_windows(tokens, 8, vocab_size=900))):
        with pytest.raises(DataError) as raised:
            read()
        assert raised.value.code == "data.unknown_token"
        assert raised.value.values["token"] >= 900
        assert raised.value.values["last"] == 899


@pytest.mark.parametrize("limit", [None, 5000, 1002])
def test_validation_reads_every_target_once_in_order(tokens: Tokens, limit: int | None):
    windows = list(val_windows(tokens, 8, limit))
    targets = np.concatenate([y for _, y in windows])
    assert targets.tolist() == list(range(1, 1003))
    assert all((y == x + 1).all() for x, y in windows)
    assert all(len(x) == 8 for x, _ in windows[:-1])


@pytest.mark.parametrize(("limit", "n_windows"), [(1, 1), (8, 1), (20, 3), (80, 10), (1000, 125)])
def test_a_part_of_the_validation_text_is_spread_over_all_of_it(tokens: Tokens, limit: int, n_windows: int):
    starts = [int(x[0]) for x, _ in val_windows(tokens, 8, limit)]
    assert len(starts) == len(set(starts)) == n_windows
    assert starts[0] == 0
    gaps = np.diff([*starts, 1003])
    assert gaps.max() - gaps.min() <= 16  # even, but for whole windows
