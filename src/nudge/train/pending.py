"""Updates whose loss and gradient norm have not been read from the device yet."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class SubmittedUpdate:
    """An update that was submitted to the device. `step` counts the updates, including this one."""

    step: int
    lr: float
    loss: Tensor
    grad_norm: Tensor
    begun_s: float  # time.perf_counter()


class PendingUpdates:
    """A queue of submitted updates, oldest first.

    Reading a number from a GPU waits until all work submitted before is done. So on a GPU the numbers of an update are
    read after the next update is submitted. On a CPU they are available at once.
    """

    def __init__(self, device_type: str) -> None:
        self._n_late = 1 if device_type == "cuda" else 0
        self._queue: deque[SubmittedUpdate] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, update: SubmittedUpdate) -> None:
        """Append an update that was submitted to the device."""
        self._queue.append(update)

    def take(self, *, everything: bool) -> Iterator[SubmittedUpdate]:
        """Remove and yield updates whose numbers can be read without idling the device; `everything`: all updates."""
        while len(self._queue) > (0 if everything else self._n_late):
            yield self._queue.popleft()
