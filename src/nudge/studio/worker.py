"""A thread for work that takes its time, so that the event loop never waits: one works with models, one draws sheets.

A person who turns a knob asks for a new answer many times a second. Of the questions with the same key only the newest
is worth an answer: older ones that were not begun are dropped.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from nudge.errors import NudgeError

Answer = TypeVar("Answer")


class SupersededError(Exception):
    """A newer question took the place of this one."""


class BusyError(NudgeError):
    """More questions are waiting than the worker takes."""


@dataclass(frozen=True, slots=True)
class _Question:
    work: Callable[[], Any]
    answer: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop


class Worker:
    """A thread with a queue of at most `room` questions."""

    def __init__(self, name: str = "models", room: int = 32) -> None:
        self.room = room
        self._waiting: OrderedDict[Hashable, _Question] = OrderedDict()
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name=f"worker: {name}", daemon=True).start()

    async def ask(self, function: Callable[..., Answer], *args: Any, key: Hashable = None, **settings: Any) -> Answer:
        """What `function(*args, **settings)` returns, called in the worker's thread; it may raise as well.

        Raises: SupersededError if a newer question with the same `key` came before this one was begun; BusyError if too
        many are waiting.
        """
        loop = asyncio.get_running_loop()
        question = _Question(lambda: function(*args, **settings), loop.create_future(), loop)
        name = object() if key is None else key
        with self._changed:
            older = self._waiting.pop(name, None)
            if older is None and len(self._waiting) >= self.room:
                raise BusyError("the studio has too many questions to answer", "wait a moment, then try again")
            self._waiting[name] = question
            self._changed.notify()
        if older is not None:
            _tell(older, error=SupersededError())
        answer: Answer = await question.answer
        return answer

    def _run(self) -> None:
        while True:
            _work_on(self._next())  # in a function of its own: an idle thread keeps no answer alive

    def _next(self) -> _Question:
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            return self._waiting.popitem(last=False)[1]


def _work_on(question: _Question) -> None:
    if question.answer.cancelled():  # the page is gone
        return
    try:
        result = question.work()
    except BaseException as error:  # whatever happened is for the page that asked; the thread goes on
        _tell(question, error=error)
    else:
        _tell(question, result=result)


def _tell(question: _Question, *, result: Any = None, error: BaseException | None = None) -> None:
    def deliver() -> None:
        if question.answer.done():
            return
        if error is not None:
            question.answer.set_exception(error)
        else:
            question.answer.set_result(result)

    if not question.loop.is_closed():
        question.loop.call_soon_threadsafe(deliver)
