"""Strangers stay out of the studio: other names, other sites, and whoever has no token."""

import asyncio
from typing import Any

import pytest

from nudge.errors import ConfigError
from nudge.studio.guard import Guard, is_loopback


def ask(guard: Guard, *, kind: str = "http", path: str = "/train", query: str = "", **headers: str) -> dict[str, Any]:
    """The first message that comes back."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "path": path, "query_string": query.encode(), "headers": pairs}
    asyncio.run(guard(scope, receive, send))
    return sent[0]


async def inner(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})


LOCAL = Guard(inner, host="127.0.0.1", token=None)
OPEN = Guard(inner, host="0.0.0.0", token="secret1")


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8300", "localhost:8300", "localhost", "[::1]:8300", "LOCALHOST:1", "127.9.9.9"]
)
def test_this_machine_is_let_in_by_its_own_names(host: str) -> None:
    assert ask(LOCAL, host=host)["status"] == 200
    assert ask(LOCAL, kind="websocket", host=host, origin=f"http://{host}")["type"] == "websocket.accept"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8300", "127.0.0.1.evil.example", "", "192.168.1.7", "localhost.evil", "[::1", "a b"],
)
def test_other_names_are_refused(host: str) -> None:
    assert ask(LOCAL, host=host)["status"] == 403
    assert ask(LOCAL, kind="websocket", host=host)["type"] == "websocket.close"


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:9999", "null", "https://localhost:8300.evil.example", ""]
)
def test_other_sites_are_refused(origin: str) -> None:
    assert ask(LOCAL, host="127.0.0.1:8300", origin=origin)["status"] == 403
    assert ask(LOCAL, kind="websocket", host="127.0.0.1:8300", origin=origin)["type"] == "websocket.close"


def test_the_token_is_asked_for_then_remembered() -> None:
    host = "192.168.1.7:8300"
    assert ask(OPEN, host=host)["status"] == 401
    assert ask(OPEN, host=host, query="token=wrong")["status"] == 401
    assert ask(OPEN, kind="websocket", host=host, query="token=secret1")["type"] == "websocket.close"
    answer = ask(OPEN, host=host, path="//elsewhere", query="token=secret1&run=a%26b")
    headers = dict(answer["headers"])
    assert answer["status"] == 303
    assert headers[b"location"] == b"/elsewhere?run=a%26b"
    assert b"HttpOnly" in headers[b"set-cookie"]
    assert b"SameSite=Strict" in headers[b"set-cookie"]
    cookie = headers[b"set-cookie"].split(b";")[0].decode()
    assert ask(OPEN, host=host, cookie=cookie)["status"] == 200
    assert ask(OPEN, host=host, cookie="nudge_token=secret")["status"] == 401
    assert ask(OPEN, host="evil.example", cookie=cookie)["status"] == 403


def test_a_reachable_address_needs_a_token() -> None:
    from pathlib import Path

    from nudge.studio.server import Address, serve

    with pytest.raises(ConfigError, match="nothing would keep strangers out"):
        serve(Path("runs"), Address(host="0.0.0.0"))
    with pytest.raises(ConfigError, match="letters and digits"):
        serve(Path("runs"), Address(host="0.0.0.0", token="a; Path=/"))


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("pc", False)],
)
def test_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local
