"""The rendezvous of a run's processes: they find each other, choose a network, and leave together."""

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
from nudge.distributed.world import GRACE_S, World, call_with_timeout, host_name
from nudge.errors import LostError, MachineError, RunError, first_line

FINISHING_S = 2.0  # after a failure: processes that do not report it end this much later


@contextlib.contextmanager
def rendezvous(machine: MachineConfig) -> Iterator[World]:
    """Join the other processes of this run, if there are any, and leave them at the end.

    Raises: MachineError if a process is missing, or the rendezvous cannot be reached, after machine.timeout_s.
    """
    world = _read_environment()
    if world.size == 1:
        yield world
        return
    on_gpu = torch.cuda.is_available() and (machine.device or "cuda").startswith("cuda")
    if on_gpu:
        if world.local_rank >= torch.cuda.device_count():
            n_gpus = torch.cuda.device_count()
            raise MachineError("too_few_gpus", size=world.local_size, host=host_name(), n=n_gpus)
        torch.cuda.set_device(world.local_rank)
    world = replace(world, device="cuda" if on_gpu else "cpu", timeout_s=machine.timeout_s)
    world = _connect(world)

    def init() -> None:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            store=dist.PrefixStore("group", world.store),
            rank=world.rank,
            world_size=world.size,
            timeout=timedelta(seconds=world.timeout_s),
        )

    try:
        call_with_timeout(world.timeout_s + GRACE_S, init)  # gloo alone waits for five times its timeout
    except (RuntimeError, TimeoutError) as error:
        raise MachineError("no_connection", rank=world.rank, error=first_line(error)) from error
    with world.heartbeat():
        try:
            yield world
            world.gather(None)  # no process leaves while another still needs it
        except LostError as error:
            if not error.reports_error:
                time.sleep(FINISHING_S)  # the launcher ends all processes when one ends: first report the error
            raise  # without leaving the group, which would wait for the lost process
    dist.destroy_process_group()


def _read_environment() -> World:
    """Read the variables that the launcher set in the environment. Raises: RunError if they are invalid."""
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
    if missing:
        raise RunError("launcher_incomplete", size=size, missing=" and ".join(missing))
    try:
        rank, n, port = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
        local_rank, local_size = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    except ValueError as error:
        raise RunError("launcher_not_numbers", error=str(error)) from error
    if not (0 <= rank < n and 0 <= port < 65536):
        raise RunError("launcher_out_of_range", rank=rank, size=n, port=port)
    return replace(launched, rank=rank, size=n, local_rank=local_rank, local_size=local_size)


def _connect(world: World) -> World:
    """Wait for the other processes and choose a network. Raises: MachineError."""
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    launcher_keeps_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"

    def connect() -> Any:
        timeout, is_store_host = timedelta(seconds=world.timeout_s), world.is_rank0 and not launcher_keeps_store
        return dist.TCPStore(address, int(port), is_master=is_store_host, timeout=timeout, wait_for_workers=False)

    try:
        store = call_with_timeout(world.timeout_s, connect)
        roster, missing = call_with_timeout(world.timeout_s + GRACE_S, lambda: _await_all(world, store))
    except (RuntimeError, TimeoutError) as error:
        if "EADDRINUSE" in str(error):
            raise MachineError("port_taken", port=port, host=host_name()) from error
        raise MachineError(
            "rendezvous_unreachable", rank=world.rank, address=address, port=port, timeout_s=world.timeout_s
        ) from error
    if missing:
        ranks, n_here = ", ".join(f"rank {rank}" for rank in missing), world.size - len(missing)
        raise MachineError("processes_missing", n=n_here, size=world.size, timeout_s=world.timeout_s, ranks=ranks)
    arrivals = [roster["arrivals"][str(rank)] for rank in range(world.size)]
    _choose_network([arrival["address"] for arrival in arrivals], world.rank)
    return replace(
        world,
        store=dist.PrefixStore(f"nudge {roster['id']}", store),
        keeps_store=not launcher_keeps_store,
        names=tuple(arrival["name"] for arrival in arrivals),
        restarts=max(arrival["restarts"] for arrival in arrivals),
    )


def _await_all(world: World, store: Any) -> tuple[dict[str, Any], list[int]]:
    """Return the roster of all processes, and the ranks that have not confirmed it when the timeout ends.

    A launcher's store may still hold the entries of processes that ended earlier, and not all launchers count restarts
    the same way. So each process writes a random number of its own. Process 0 writes a new roster whenever an entry
    changes, and a roster is final once every process has found its own entry in it.
    """
    keys = [f"arrival/{rank}" for rank in range(world.size)]
    me = {
        "number": uuid.uuid4().hex,
        "name": f"process {os.getpid()} on {host_name()}",
        "address": _address_toward(os.environ["MASTER_ADDR"]),
        "restarts": world.restarts,
    }
    store.set(keys[world.rank], json.dumps(me))
    listed: dict[str, Any] = {}
    roster: dict[str, Any] = {"id": "", "arrivals": {}}
    end = time.monotonic() + world.timeout_s
    while time.monotonic() < end:
        if world.is_rank0:
            found = {str(rank): json.loads(store.get(key)) for rank, key in enumerate(keys) if store.check([key])}
            if found != listed:
                listed = found
                store.set("roster", json.dumps({"id": uuid.uuid4().hex, "arrivals": found}))
        if store.check(["roster"]):
            roster = json.loads(store.get("roster"))
        if roster["arrivals"].get(str(world.rank)) == me:
            store.set(f"{roster['id']}/{world.rank}", "here")
            if store.check([f"{roster['id']}/{rank}" for rank in range(world.size)]):
                return roster, []
        time.sleep(0.02)
    return roster, [rank for rank in range(world.size) if not store.check([f"{roster['id']}/{rank}"])]


def _choose_network(addresses: list[str], rank: int) -> None:
    """Set the network interface for gloo and NCCL to the one that reaches the rendezvous.

    Without it they would look up the host name, which may resolve to another interface.
    """
    if "GLOO_SOCKET_IFNAME" in os.environ:
        return
    ours = addresses[rank]
    if _is_loopback(ours):
        # The rendezvous is on this machine, perhaps under its own name, which torchrun gives to all processes. On
        # Debian that name resolves to 127.0.1.1, which no other machine can reach. Use the network that reaches the
        # other machines instead, if there are any.
        ours = next((_address_toward(other) for other in addresses if other and not _is_loopback(other)), ours)
    for name, found in psutil.net_if_addrs().items():
        if any(known.address == ours for known in found):
            os.environ["GLOO_SOCKET_IFNAME"] = name
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)


def _address_toward(address: str) -> str:
    """Return this machine's own address in the network that reaches `address`; "" if none does."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # sends nothing: it only looks up the route
        return str(probe.getsockname()[0])
    return ""


def _is_loopback(address: str) -> bool:
    return address.startswith("127.")
