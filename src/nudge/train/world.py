"""The processes of one run: who they are, what they agree on, and which of them went missing.

torchrun, or whatever else sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, starts one command several times. Each of
them is one `World`, and does the same things in the same order; a run of a single process is a world of size 1, for
which nothing below costs anything.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

import psutil
import torch
import torch.distributed as dist
from torch import Tensor

from nudge.config import MachineConfig
from nudge.errors import LostError, MachineError, NudgeError, RunError

T = TypeVar("T")
E = TypeVar("E")

WORDS = ("", "save", "pause", "stop")  # of train/control.py, the weightier one last
GRACE_S = 3.0  # after a failure: how long the others have to say that they are still there
LATE, CLOSED = "late", "closed"  # what a process says that is still there: it waited in vain, or was cut off
FINISHING_S = 2.0  # and how long the one that tells of it waits for them to end


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One process of a run, among all of them."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among those on this machine
    local_size: int = 1
    device: str = "cpu"  # that they speak over: cpu (gloo) or cuda (NCCL)
    timeout_s: float = 0.0
    launch: str = ""  # names what torchrun was started once for, over all its restarts
    restarts: int = 0
    parent: int = 0  # the process that launched this one
    store: Any = field(default=None, repr=False)  # torch's key-value store
    keeps_store: bool = False  # process 0 does; else the launcher, so that it outlives every process
    names: tuple[str, ...] = ()  # of all processes: where each is found

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run folder and speaks to the person."""
        return self.rank == 0

    # What is done in all processes at once

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with self.watched():
            dist.all_gather_object(values, value)
        return values

    def from_first(self, work: Callable[[], T]) -> T:
        """What `work` gives in the first process, for all; if it fails there, it fails in all."""
        if self.size == 1:
            return work()
        result, error = None, None
        if self.is_first:
            try:
                result = work()
            except LostError:
                raise
            except NudgeError as failed:
                error = failed
        result, error = self.gather((result, error))[0]
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def together(self, work: Callable[[], T]) -> T:
        """Do `work` in every process; if it fails in one, it fails in all, with that one's error."""
        error = None
        try:
            result = work()
        except LostError:
            raise
        except NudgeError as failed:
            error = failed
        self._fail_together(error)
        return result

    def jointly(self, steps: Generator[E, None, T]) -> Generator[E, None, T]:
        """`together` for work that tells of its progress."""
        error = None
        try:
            result = yield from steps
        except LostError:
            raise
        except NudgeError as failed:
            error = failed
        self._fail_together(error)
        return result

    def _fail_together(self, error: NudgeError | None) -> None:
        outcomes = self.gather((error, _host()))
        failed = [(rank, error, host) for rank, (error, host) in enumerate(outcomes) if error is not None]
        if failed:
            rank, first, host = failed[0]
            where = f"process {rank} on {host}: " if len(failed) < self.size else ""
            raise type(first)(where + first.message, first.hint)

    def agree(self, word: str) -> str:
        """The weightiest of the words that the processes heard."""
        if self.size == 1:
            return word
        number = torch.tensor(WORDS.index(word) if word in WORDS else 0)
        with self.watched():
            dist.all_reduce(number, dist.ReduceOp.MAX)
        return WORDS[int(number)]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather_rows(self, mine: Tensor) -> Tensor:
        """The rows [n, ..] of every process, after each other: [size * n, ..]; each has as many."""
        if self.size == 1:
            return mine
        rows = mine.new_empty((self.size * len(mine), *mine.shape[1:]))
        dist.all_gather(list(rows.chunk(self.size)), mine.contiguous())
        return rows

    def part(self, n: int) -> slice:
        """This process's part of n things; every process has as many, so n must be a multiple of `size`."""
        assert n % self.size == 0, f"{n} things for {self.size} processes"
        each = n // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    # What can go wrong

    @property
    def is_orphan(self) -> bool:
        """Whether the launcher is gone: nobody would notice that this process goes on, or end it."""
        return self.size > 1 and os.getppid() != self.parent

    @contextlib.contextmanager
    def watched(self, step: int | None = None) -> Iterator[None]:
        """Turn the failure of a conversation into an error that names who is missing. `step`: updates made.

        Raises: LostError.
        """
        if self.size == 1:
            yield
            return
        try:
            yield
        except RuntimeError as error:  # torch's own errors of conversations are of this kind
            if _is_about_talking(error):
                raise self._lost(error, step) from error
            with contextlib.suppress(RuntimeError):
                self.store.set(f"failed/{self.rank}", f"{type(error).__name__}: {_first_line(error)}")
            raise

    def _lost(self, error: BaseException, step: int | None) -> LostError:
        """Who is still there says so in the store, and who does not is named."""
        is_late = "imed out" in str(error)
        try:
            heard = _in_time(2 * GRACE_S, lambda: self._ask(LATE if is_late else CLOSED))
        except (RuntimeError, TimeoutError):  # whoever keeps the store is gone
            who = self._named(0) if self.keeps_store else "the launcher of these processes"
            told = f"{who} did not answer for {self.timeout_s:g} s" if is_late else f"{who} is gone"
            return self._lost_error(told, step, speaks=self.rank == 1 if self.keeps_store else self.local_rank == 0)
        crashed = [rank for rank, words in enumerate(heard) if words not in (None, LATE, CLOSED)]
        missing = [rank for rank, words in enumerate(heard) if words is None]
        if crashed:
            told = "; ".join(f"{self._named(rank)} failed: {heard[rank]}" for rank in crashed)
        elif missing:
            what = f"did not answer for {self.timeout_s:g} s" if LATE in heard else "is gone"
            told = "; ".join(f"{self._named(rank)} {what}" for rank in missing)
        else:
            told = f"the processes did not hear each other, though all are there ({_first_line(error)})"
        speaker = next(rank for rank, words in enumerate(heard) if words in (LATE, CLOSED))
        return self._lost_error(told, step, speaks=self.rank == speaker)

    def _ask(self, how: str) -> list[str | None]:
        """Say that this process is there, and how it lost the others; what all say, some time later."""
        self.store.set(f"failed/{self.rank}", how)
        time.sleep(GRACE_S)
        keys = [f"failed/{rank}" for rank in range(self.size)]
        return [self.store.get(key).decode() if self.store.check([key]) else None for key in keys]

    def _lost_error(self, told: str, step: int | None, *, speaks: bool) -> LostError:
        hint = "torchrun --max-restarts starts again by itself; without it: nudge resume, from the last checkpoint"
        if "did not answer" in told:
            hint += f" (is it only slow, as at saving? --set machine.timeout_s={4 * self.timeout_s:g})"
        return LostError(told + ("" if step is None else f" after update {step}"), hint, speaks=speaks)

    def _named(self, rank: int) -> str:
        return f"rank {rank} ({self.names[rank]})"


ALONE = World()


@contextlib.contextmanager
def join(machine: MachineConfig) -> Iterator[World]:
    """Meet the other processes of this run, if there are any, and leave them at the end.

    Raises: MachineError if they do not come, or the place to meet cannot be reached, within machine.timeout_s.
    """
    world = _place()
    if world.size == 1:
        yield world
        return
    on_gpu = torch.cuda.is_available() and (machine.device or "cuda").startswith("cuda")
    if on_gpu:
        if world.local_rank >= torch.cuda.device_count():
            raise MachineError(
                f"{world.local_size} processes on {_host()}, which has {torch.cuda.device_count()} GPUs",
                "start one process for each GPU: torchrun --nproc-per-node gpu",
            )
        torch.cuda.set_device(world.local_rank)
    world = replace(world, device="cuda" if on_gpu else "cpu", timeout_s=machine.timeout_s)
    world = _meet(world)

    def speak() -> None:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            store=dist.PrefixStore("group", world.store),
            rank=world.rank,
            world_size=world.size,
            timeout=timedelta(seconds=world.timeout_s),
        )

    try:
        _in_time(world.timeout_s + GRACE_S, speak)  # gloo by itself waits for five times its time-out
    except (RuntimeError, TimeoutError) as error:
        raise MachineError(
            f"process {world.rank} met the others, but cannot speak with them: {_first_line(error)}",
            "which network do they share? name it: GLOO_SOCKET_IFNAME=eth0 (and NCCL_SOCKET_IFNAME for GPUs)",
        ) from error
    try:
        yield world
        world.gather(None)  # nobody leaves while another still wants something of it
    except LostError as error:
        if not error.speaks:
            time.sleep(FINISHING_S)  # the launcher ends all when the first one ends: let that be the one that speaks
        raise  # and the conversation is left as it is: to end it in good order would wait for who is lost
    dist.destroy_process_group()


def _place() -> World:
    """What the launcher says in the environment. Raises: RunError if that is no place among processes."""
    run_id = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    launched = World(
        launch=run_id if run_id != "none" else f"{_host()}:{os.getppid()}",
        restarts=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)),
        parent=os.getppid(),
    )
    size = os.environ.get("WORLD_SIZE", "1")
    if size == "1":
        return launched
    needed = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in needed if not os.environ.get(name)]
    hint = "torchrun sets them: torchrun --nproc-per-node 2 -m -- nudge train (or unset WORLD_SIZE for one process)"
    if missing:
        raise RunError(f"WORLD_SIZE is set to {size}, but not {' and '.join(missing)}", hint)
    try:
        rank, n, port = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
        local_rank, local_size = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    except ValueError as error:
        raise RunError(f"the launcher's environment is not made of whole numbers: {error}", hint) from error
    if not (0 <= rank < n and 0 <= port < 65536):
        raise RunError(f"there is no rank {rank} among {n} processes (WORLD_SIZE), or no port {port}", hint)
    return replace(launched, rank=rank, size=n, local_rank=local_rank, local_size=local_size)


def _meet(world: World) -> World:
    """This process among the others, all of which have come. Raises: MachineError."""
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    by_launcher = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"

    def connect() -> Any:
        patience, hosts = timedelta(seconds=world.timeout_s), world.is_first and not by_launcher
        return dist.TCPStore(address, int(port), is_master=hosts, timeout=patience, wait_for_workers=False)

    try:
        store = _in_time(world.timeout_s, connect)
        roster, missing = _in_time(world.timeout_s + GRACE_S, lambda: _call_the_roll(world, store))
    except (RuntimeError, TimeoutError) as error:
        if "EADDRINUSE" in str(error):
            raise MachineError(
                f"port {port} on {_host()} is taken by another program",
                "choose another: MASTER_PORT=29501, or torchrun --standalone, which finds a free one",
            ) from error
        raise MachineError(
            f"process {world.rank} cannot reach the meeting place {address}:{port} within {world.timeout_s:g} s",
            "is process 0 running there, and does the network let this machine reach that port?",
        ) from error
    if missing:
        raise MachineError(
            f"{world.size - len(missing)} of {world.size} processes came within {world.timeout_s:g} s: missing "
            f"{', '.join(f'rank {rank}' for rank in missing)}",
            "start as many as WORLD_SIZE says, each with a RANK of its own",
        )
    come = [roster["come"][str(rank)] for rank in range(world.size)]
    _choose_network([one["address"] for one in come], world.rank)
    return replace(
        world,
        store=dist.PrefixStore(f"nudge {roster['id']}", store),
        keeps_store=not by_launcher,
        names=tuple(one["name"] for one in come),
        restarts=max(one["restarts"] for one in come),
    )


def _call_the_roll(world: World, store: Any) -> tuple[dict[str, Any], list[int]]:
    """The list of all that came, and the ranks that did not within the time-out.

    A launcher's store still holds what processes wrote that it has ended since, and not every launcher counts its
    restarts alike. So each process comes with a number of its own, the first one lists what it finds, anew whenever
    that changes, and a list counts once all that stand on it have found their number there.
    """
    keys = [f"come/{rank}" for rank in range(world.size)]
    me = {
        "number": uuid.uuid4().hex,
        "name": f"process {os.getpid()} on {_host()}",
        "address": _address_towards(os.environ["MASTER_ADDR"]),
        "restarts": world.restarts,
    }
    store.set(keys[world.rank], json.dumps(me))
    listed: dict[str, Any] = {}
    roster: dict[str, Any] = {"id": "", "come": {}}
    end = time.monotonic() + world.timeout_s
    while time.monotonic() < end:
        if world.is_first:
            found = {str(rank): json.loads(store.get(key)) for rank, key in enumerate(keys) if store.check([key])}
            if found != listed:
                listed = found
                store.set("roster", json.dumps({"id": uuid.uuid4().hex, "come": found}))
        if store.check(["roster"]):
            roster = json.loads(store.get("roster"))
        if roster["come"].get(str(world.rank)) == me:
            store.set(f"{roster['id']}/{world.rank}", "here")
            if store.check([f"{roster['id']}/{rank}" for rank in range(world.size)]):
                return roster, []
        time.sleep(0.02)
    return roster, [rank for rank in range(world.size) if not store.check([f"{roster['id']}/{rank}"])]


def _in_time(seconds: float, work: Callable[[], T]) -> T:
    """What `work` gives, if it does so in time: torch's store waits for ever for a host that accepts and never answers.

    Raises: TimeoutError, and what `work` raises.
    """
    outcome: list[tuple[Any, BaseException | None]] = []

    def do() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError(f"no answer for {seconds:g} s")
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


def _choose_network(addresses: list[str], rank: int) -> None:
    """Let gloo and NCCL use the network that leads to the meeting place: a machine's own name may lead elsewhere."""
    if "GLOO_SOCKET_IFNAME" in os.environ:
        return
    ours = addresses[rank]
    if _is_loopback(ours):
        # The meeting place is on this machine, and is its own name perhaps, which torchrun gives to all: on Debian that
        # leads to 127.0.1.1 here, where nobody else can come. The network is then the one the others come from, if any.
        ours = next((_address_towards(theirs) for theirs in addresses if theirs and not _is_loopback(theirs)), ours)
    for name, found in psutil.net_if_addrs().items():
        if any(known.address == ours for known in found):
            os.environ["GLOO_SOCKET_IFNAME"] = name
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)


def _address_towards(address: str) -> str:
    """This machine's address in the network that leads there; "" if none does."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # sends nothing: it only asks which way a packet would go
        return str(probe.getsockname()[0])
    return ""


def _is_loopback(address: str) -> bool:
    return address.startswith("127.")


def _host() -> str:
    return socket.gethostname()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _is_about_talking(error: BaseException) -> bool:
    """gloo's failures are plain RuntimeErrors that name its source files."""
    words = str(error)
    return isinstance(error, dist.DistError) or "gloo" in words or "NCCL" in words or "Connection" in words
