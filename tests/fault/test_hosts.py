"""One run on two machines: network namespaces with a slow link between them, which a test can cut."""

import contextlib
import fcntl
import heapq
import os
import select
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from tests.fault.test_processes import ROUNDING, TEXT, endless, furthest, options
from tests.processes import losses, run, wait_for_step

TUN = Path("/dev/net/tun")
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h: a device whose packets a program reads
DELAY_S = 0.010  # each way: as long as light takes through 2000 km of fibre
PACKET_BYTES = 65536  # no packet is longer
ADDRESSES = ("192.168.77.1", "192.168.77.2")  # above 127: of two gloo processes, that with the higher address calls
FIRST = "nudge-first"  # what the hosts call host 0
# As Debian installs it: a machine's own name leads to itself, and only the others know the address in the network.
NAMES = (f"127.0.0.1 localhost\n127.0.1.1 {FIRST}\n", f"127.0.0.1 localhost\n{ADDRESSES[0]} {FIRST}\n")
PORT = "29577"  # nobody else is in the namespace
TIME_OUT_S = 60  # a test fails rather than waits for ever


def _why_not() -> str:
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "network namespaces are made by root on Linux"
    if shutil.which("ip") is None:
        return "there is no `ip` (iproute2) here to make network namespaces with"
    if not os.access(TUN, os.R_OK | os.W_OK):
        return f"{TUN} cannot be opened, so no link can be made"
    tried = subprocess.run(["ip", "netns", "add", _namespace(9)], capture_output=True, text=True)
    if tried.returncode:
        return f"no network namespace can be made here: {tried.stderr.strip()}"
    _ip("netns", "del", _namespace(9))
    return ""


def _namespace(number: int) -> str:
    return f"nudge-{os.getpid()}-{number}"


def _etc(number: int) -> Path:
    return Path("/etc/netns") / _namespace(number)


def _ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True, timeout=TIME_OUT_S)


class Link:
    """Carries the packets of two TUN devices to each other, each DELAY_S after it was sent; one is in each host."""

    def __init__(self) -> None:
        self.is_cut = False
        self._ends: list[int] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._carry)

    def __enter__(self) -> Self:
        try:
            for number, address in enumerate(ADDRESSES):
                name, host = f"nudge{number}", _namespace(number)
                _ip("netns", "add", host)
                _etc(number).mkdir(parents=True)  # `ip netns exec` lays it over /etc
                (_etc(number) / "hosts").write_text(NAMES[number])
                end = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
                self._ends.append(end)
                fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
                _ip("link", "set", name, "netns", host)  # the packets still come out here
                _ip("-n", host, "address", "add", f"{address}/24", "dev", name)
                _ip("-n", host, "link", "set", "lo", "up")
                _ip("-n", host, "link", "set", name, "up")
            self._thread.start()
        except BaseException:
            self._take_down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self._take_down()

    def _take_down(self) -> None:
        for end in self._ends:
            os.close(end)  # which also removes the device
        for number in range(len(ADDRESSES)):
            subprocess.run(["ip", "netns", "del", _namespace(number)], capture_output=True, timeout=TIME_OUT_S)
            shutil.rmtree(_etc(number), ignore_errors=True)
        with contextlib.suppress(OSError):  # of others is something in it, or it was never made
            _etc(0).parent.rmdir()

    def _carry(self) -> None:
        under_way: list[tuple[float, int, int, bytes]] = []  # when it is due, its number, where to, what
        sent = 0
        while not self._is_over.is_set():
            until_due = under_way[0][0] - time.monotonic() if under_way else 0.1
            ready, _, _ = select.select(self._ends, [], [], max(0.0, until_due))
            for end in ready:
                with contextlib.suppress(BlockingIOError):
                    packet = os.read(end, PACKET_BYTES)
                    other = self._ends[1 - self._ends.index(end)]
                    sent += 1
                    heapq.heappush(under_way, (time.monotonic() + DELAY_S, sent, other, packet))
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(under_way)
                if not self.is_cut:
                    with contextlib.suppress(OSError):  # the other end is full, or not up yet: packets may be lost
                        os.write(end, packet)


@dataclass
class Hosts:
    """A command that runs on both hosts, which share a folder."""

    folder: Path
    all: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def wait(self) -> list[int]:
        end = time.monotonic() + TIME_OUT_S
        return [process.wait(max(0.0, end - time.monotonic())) for process in self.all]

    def said(self, rank: int) -> str:
        return (self.folder / f"{rank}.txt").read_text(errors="replace")


@contextlib.contextmanager
def both(folder: Path, *args: str, first: str = ADDRESSES[0], **only_first: str) -> Iterator[Hosts]:
    """`nudge ARGS` with one process on each host; none is left at the end.

    `first`: how host 0 is called. `only_first`: what more its environment says.
    """
    hosts = Hosts(folder)
    try:
        for rank in range(len(ADDRESSES)):
            place = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
            place |= {"MASTER_ADDR": first, "MASTER_PORT": PORT, "OMP_NUM_THREADS": "1"}
            place |= only_first if rank == 0 else {}
            with (folder / f"{rank}.txt").open("wb") as file:
                process = subprocess.Popen(
                    ["ip", "netns", "exec", _namespace(rank), sys.executable, "-m", "nudge", *args],
                    cwd=folder,
                    env=os.environ | place,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            hosts.all.append(process)
        yield hosts
    finally:
        for process in hosts.all:
            process.kill()
            process.wait()


@pytest.fixture
def link() -> Iterator[Link]:
    if reason := _why_not():
        pytest.skip(reason)
    with Link() as link:
        yield link


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return path


# Nobody listens on port 9, so what comes back is a refusal, after one round trip.
ROUND_TRIP = """
import socket, sys, time
begun = time.monotonic()
try:
    socket.create_connection((sys.argv[1], 9), timeout=10)
except ConnectionRefusedError:
    print(time.monotonic() - begun)
"""


def round_trip_s(host: int) -> float:
    """How long a host waits for the other's answer."""
    command = ["ip", "netns", "exec", _namespace(host), sys.executable, "-c", ROUND_TRIP, ADDRESSES[1 - host]]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIME_OUT_S)
    return float(done.stdout)


@pytest.mark.campaign
@pytest.mark.parametrize("how", [{}, {"machine.shard": "true"}], ids=["DDP", "FSDP"])
def test_two_hosts_far_apart_make_the_same_updates_as_one(
    how: dict[str, object], link: Link, text: Path, tmp_path: Path
) -> None:
    assert min(round_trip_s(0), round_trip_s(1)) >= 2 * DELAY_S * 0.9
    settings = options(text, **{"train.steps": 6, "machine.update": "eager", **how})
    run(tmp_path, 1, "train", *settings, "--run", "alone")
    with both(tmp_path, "train", *settings, "--run", "run") as hosts:
        assert hosts.wait() == [0, 0], hosts.said(0) + hosts.said(1)
    assert furthest(losses(tmp_path / "alone"), losses(tmp_path / "run")) < ROUNDING


@pytest.mark.campaign
def test_the_first_host_may_know_itself_by_a_name_that_leads_nowhere_else(
    link: Link, text: Path, tmp_path: Path
) -> None:
    settings = options(text, **{"train.steps": 2, "eval.every": 0, "sample.every": 0})
    with both(tmp_path, "train", *settings, "--run", "run", first=FIRST) as hosts:
        assert hosts.wait() == [0, 0], hosts.said(0) + hosts.said(1)
    assert ("Step", 2) in losses(tmp_path / "run")


@pytest.mark.campaign
def test_hosts_that_meet_but_cannot_speak_end_within_the_time_out(link: Link, text: Path, tmp_path: Path) -> None:
    settings = endless(text, **{"machine.timeout_s": 8})
    with both(tmp_path, *settings, GLOO_SOCKET_IFNAME="lo") as hosts:
        begun = time.monotonic()
        assert hosts.wait() == [2, 2]
        assert time.monotonic() - begun < 8 + 3 + 20  # the time-out, GRACE_S, and a busy machine that imports torch
        for rank in range(2):
            assert f"error: process {rank} met the others, but cannot speak with them" in hosts.said(rank)
            assert "GLOO_SOCKET_IFNAME=eth0" in hosts.said(rank)
    assert not (tmp_path / "run").exists()


@pytest.mark.campaign
@pytest.mark.parametrize("how", [{}, {"machine.shard": "true"}], ids=["DDP", "FSDP"])
def test_a_cut_between_two_hosts_ends_both_and_each_names_the_other(
    how: dict[str, object], link: Link, text: Path, tmp_path: Path
) -> None:
    with both(tmp_path, *endless(text, **how, **{"machine.timeout_s": 4})) as hosts:
        wait_for_step(tmp_path / "run", 6)
        link.is_cut = True
        begun = time.monotonic()
        assert hosts.wait() == [2, 2]
        assert time.monotonic() - begun < 4 + 3 + 2 + 10  # the time-out, GRACE_S, FINISHING_S, and a busy machine
        for rank, other in ((0, hosts.all[1]), (1, hosts.all[0])):
            assert f"error: rank {1 - rank} (process {other.pid} on " in hosts.said(rank)
            assert "did not answer for 4 s" in hosts.said(rank)
            assert "Traceback" not in hosts.said(rank)
    run(tmp_path, 1, "resume", "run", "--steps", "12")
    assert losses(tmp_path / "run").keys() >= {("Step", step) for step in range(1, 13)}
