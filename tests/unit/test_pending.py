"""Numbers that a GPU delivers one update late, and that a CPU has at once."""

import pytest
import torch

from nudge.train.pending import PendingUpdates, SubmittedUpdate


def submitted(step: int) -> SubmittedUpdate:
    return SubmittedUpdate(step, 0.1, torch.tensor(1.0), torch.tensor(2.0), 0.0)


@pytest.mark.parametrize(
    ("device", "taken"), [("cpu", [[1], [2], [3]]), ("mps", [[1], [2], [3]]), ("cuda", [[], [1], [2]])]
)
def test_how_late_numbers_are_read(device: str, taken: list[list[int]]):
    pending = PendingUpdates(device)
    found = []
    for step in (1, 2, 3):
        pending.add(submitted(step))
        found.append([update.step for update in pending.take(everything=False)])
    assert found == taken


def test_everything_is_read_in_order_where_what_follows_needs_it():
    pending = PendingUpdates("cuda")
    for step in (1, 2, 3):
        pending.add(submitted(step))
    assert [update.step for update in pending.take(everything=True)] == [1, 2, 3]
    assert not pending


def test_an_update_that_was_not_taken_stays():
    pending = PendingUpdates("cpu")
    for step in (1, 2):
        pending.add(submitted(step))
    next(pending.take(everything=True))
    assert len(pending) == 1
    assert [update.step for update in pending.take(everything=False)] == [2]
