"""Updates whose loss and gradient norm have not been read from the device yet."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class SubmittedUpdate:
    """An update that was handed to the device. `step` counts the updates made, this one included."""

    step: int
    lr: float
    loss: Tensor
    grad_norm: Tensor
    begun_s: float  # time.perf_counter()


class PendingUpdates:
    """A queue of updates in the order they were made.

    Reading a number waits until a GPU has caught up. So it is read one update late there, while the next update
    computes. On a CPU every number is there at once.
    """

    def __init__(self, device_type: str) -> None:
        self._n_late = 1 if device_type == "cuda" else 0
        self._queue: deque[SubmittedUpdate] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, update: SubmittedUpdate) -> None:
        """Append an update that was handed to the device."""
        self._queue.append(update)

    def take(self, *, everything: bool) -> Iterator[SubmittedUpdate]:
        """Yield the updates whose numbers can be read without making the device wait, or else `everything`."""
        while len(self._queue) > (0 if everything else self._n_late):
            yield self._queue.popleft()
