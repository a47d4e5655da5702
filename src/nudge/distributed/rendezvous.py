"""How the processes of a run find each other: who is there, over which network they speak, and how they part."""

import contextlib
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psutil
import torch
import torch.distributed as dist

from nudge.config import MachineConfig
from nudge.distributed.world import GRACE_S, World, host_name, in_time
from nudge.errors import LostError, MachineError, RunError, first_line

FINISHING_S = 2.0  # after a failure: how much later those end that do not tell of it


@contextlib.contextmanager
def rendezvous(machine: MachineConfig) -> Iterator[World]:
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
                f"{world.local_size} processes on {host_name()}, which has {torch.cuda.device_count()} GPUs",
                "start one process for each GPU: torchrun --nproc-per-node gpu",
            )
        torch.cuda.set_device(world.local_rank)
    world = replace(world, device="cuda" if on_gpu else "cpu", timeout_s=machine.timeout_s)
    world = _connect(world)

    def speak() -> None:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            store=dist.PrefixStore("group", world.store),
            rank=world.rank,
            world_size=world.size,
            timeout=timedelta(seconds=world.timeout_s),
        )

    try:
        in_time(world.timeout_s + GRACE_S, speak)  # gloo by itself waits for five times its time-out
    except (RuntimeError, TimeoutError) as error:
        raise MachineError(
            f"process {world.rank} met the others, but cannot speak with them: {first_line(error)}",
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
        launch=run_id if run_id != "none" else f"{host_name()}:{os.getppid()}",
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


def _connect(world: World) -> World:
    """This process among the others, all of which have come. Raises: MachineError."""
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    by_launcher = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"

    def connect() -> Any:
        patience, hosts = timedelta(seconds=world.timeout_s), world.is_rank0 and not by_launcher
        return dist.TCPStore(address, int(port), is_master=hosts, timeout=patience, wait_for_workers=False)

    try:
        store = in_time(world.timeout_s, connect)
        roster, missing = in_time(world.timeout_s + GRACE_S, lambda: _await_all(world, store))
    except (RuntimeError, TimeoutError) as error:
        if "EADDRINUSE" in str(error):
            raise MachineError(
                f"port {port} on {host_name()} is taken by another program",
                "choose another: MASTER_PORT=29501, or torchrun --standalone, which finds a free one",
            ) from error
        raise MachineError(
            f"process {world.rank} cannot reach the rendezvous {address}:{port} within {world.timeout_s:g} s",
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


def _await_all(world: World, store: Any) -> tuple[dict[str, Any], list[int]]:
    """The list of all that came, and the ranks that did not within the time-out.

    A launcher's store still holds what processes wrote that it has ended since, and not every launcher counts its
    restarts alike. So each process comes with a number of its own, the first one lists what it finds, anew whenever
    that changes, and a list counts once all that stand on it have found their number there.
    """
    keys = [f"come/{rank}" for rank in range(world.size)]
    me = {
        "number": uuid.uuid4().hex,
        "name": f"process {os.getpid()} on {host_name()}",
        "address": _address_towards(os.environ["MASTER_ADDR"]),
        "restarts": world.restarts,
    }
    store.set(keys[world.rank], json.dumps(me))
    listed: dict[str, Any] = {}
    roster: dict[str, Any] = {"id": "", "come": {}}
    end = time.monotonic() + world.timeout_s
    while time.monotonic() < end:
        if world.is_rank0:
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


def _choose_network(addresses: list[str], rank: int) -> None:
    """Let gloo and NCCL use the network that leads to the rendezvous: a machine's own name may lead elsewhere."""
    if "GLOO_SOCKET_IFNAME" in os.environ:
        return
    ours = addresses[rank]
    if _is_loopback(ours):
        # The rendezvous is on this machine, and is its own name perhaps, which torchrun gives to all: on Debian that
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
