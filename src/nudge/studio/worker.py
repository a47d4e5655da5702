"""A thread for slow work, so that the event loop never waits.

A knob that is turned requests a new answer many times a second. Among questions with the same key only the newest
matters: older ones that have not begun are dropped.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, TypeVar

from nudge.errors import MachineError

Answer = TypeVar("Answer")
_Question = tuple[Callable[[], Any], "asyncio.Future[Any]"]  # the work, and its answer


class SupersededError(Exception):
    """A newer question replaced this one."""


class Worker:
    """A thread with a queue of at most `room` questions."""

    def __init__(self, name: str = "models", room: int = 32) -> None:
        self.room = room
        self._waiting: OrderedDict[Hashable, _Question] = OrderedDict()
        self._name: Hashable = None  # of the question that is being worked on
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name=f"worker: {name}", daemon=True).start()

    async def ask(self, function: Callable[..., Answer], *args: Any, key: Hashable = None, **settings: Any) -> Answer:
        """Call `function(*args, **settings)` in the worker's thread; return its result or raise its error.

        Raises: SupersededError if a newer question with the same `key` came before this one began; MachineError if too
        many are waiting.
        """
        question: _Question = partial(function, *args, **settings), asyncio.get_running_loop().create_future()
        name = object() if key is None else key
        with self._changed:
            older = self._waiting.pop(name, None)
            if older is None and len(self._waiting) >= self.room:
                raise MachineError("busy")
            self._waiting[name] = question
            self._changed.notify()
        if older is not None:
            _deliver(older[1], error=SupersededError())
        answer: Answer = await question[1]
        return answer

    def is_superseded(self) -> bool:
        """Return whether a newer question waits with the key of the one that is being worked on."""
        return self._name in self._waiting

    def _run(self) -> None:
        while True:
            _work_on(*self._next())  # a separate function, so that an idle thread keeps no answer alive

    def _next(self) -> _Question:
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            self._name, question = self._waiting.popitem(last=False)
            return question


def _work_on(work: Callable[[], Any], answer: "asyncio.Future[Any]") -> None:
    if answer.cancelled():  # the page is gone
        return
    try:
        result = work()
    except BaseException as error:  # the page that asked gets every error; the thread goes on
        _deliver(answer, error=error)
    else:
        _deliver(answer, result=result)


def _deliver(answer: "asyncio.Future[Any]", *, result: Any = None, error: BaseException | None = None) -> None:
    def deliver() -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)

    loop = answer.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(deliver)
