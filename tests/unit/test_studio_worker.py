"""The worker's thread: the newest of equal questions wins, the queue is bounded, and no question kills it."""

import asyncio
import threading

import pytest

from nudge.errors import MachineError
from nudge.studio.worker import SupersededError, Worker


def test_answers_and_errors_come_back() -> None:
    async def main() -> None:
        worker = Worker()
        assert await worker.ask(pow, 2, 10) == 1024
        with pytest.raises(ZeroDivisionError):
            await worker.ask(divmod, 1, 0)
        assert await worker.ask(threading.current_thread) is not threading.current_thread()

    asyncio.run(main())


def test_the_newest_question_of_a_key_wins() -> None:
    async def main() -> None:
        worker, gate, asked = Worker(), threading.Event(), []
        blocking = asyncio.ensure_future(worker.ask(gate.wait))
        await asyncio.sleep(0.05)  # it has begun
        turns = [asyncio.ensure_future(worker.ask(asked.append, turn, key="knob")) for turn in range(20)]
        other = asyncio.ensure_future(worker.ask(asked.append, "other", key="else"))
        await asyncio.sleep(0)
        gate.set()
        results = await asyncio.gather(*turns, other, blocking, return_exceptions=True)
        assert [type(result) for result in results[:19]] == [SupersededError] * 19
        assert asked == [19, "other"]

    asyncio.run(main())


def test_a_full_queue_says_so() -> None:
    async def main() -> None:
        worker, gate = Worker(room=2), threading.Event()
        waiting = [asyncio.ensure_future(worker.ask(gate.wait))]
        await asyncio.sleep(0.05)
        waiting += [asyncio.ensure_future(worker.ask(int)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(MachineError) as error:
            await worker.ask(int)
        assert error.value.code == "machine.busy"
        gate.set()
        assert await asyncio.gather(*waiting) == [True, 0, 0]

    asyncio.run(main())


def test_a_question_that_nobody_waits_for_is_not_worked_on() -> None:
    async def main() -> None:
        worker, gate, done = Worker(), threading.Event(), []
        blocking = asyncio.ensure_future(worker.ask(gate.wait))
        await asyncio.sleep(0.05)
        left = asyncio.ensure_future(worker.ask(done.append, 1))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.sleep(0)
        gate.set()
        await blocking
        await worker.ask(done.append, 2)
        assert done == [2]

    asyncio.run(main())
