"""Strangers stay out of the studio: other names, other sites, and requests without the token."""

import asyncio
from typing import Any

import pytest

from nudge.errors import ConfigError
from nudge.studio.access import Guard, is_loopback


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
    "origin",
    ["http://evil.example", "http://127.0.0.1:9999", "null", "https://localhost:8300.evil.example", "", "http://["],
)
def test_other_sites_are_refused(origin: str) -> None:
    assert ask(LOCAL, host="127.0.0.1:8300", origin=origin)["status"] == 403
    assert ask(LOCAL, kind="websocket", host="127.0.0.1:8300", origin=origin)["type"] == "websocket.close"


def test_parts_of_other_sites_are_refused() -> None:
    """An image or a script has no Origin, but the browser adds whose page requested it."""

    def status(site: str, mode: str) -> int:
        pairs = {"host": "127.0.0.1:8300", "sec-fetch-site": site, "sec-fetch-mode": mode}
        return int(ask(LOCAL, **pairs)["status"])

    assert status("cross-site", "no-cors") == 403
    assert status("cross-site", "cors") == 403
    assert status("cross-site", "navigate") == 200  # a link that the user follows
    assert status("same-origin", "no-cors") == 200
    assert status("none", "navigate") == 200
    assert (
        ask(LOCAL, kind="websocket", host="localhost", **{"sec-fetch-site": "cross-site"})["type"] == "websocket.close"
    )


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/train", b"/train"),
        ("//evil.example", b"/evil.example"),
        ("/\\evil.example", b"/evil.example"),
        ("\\/\\evil.example", b"/evil.example"),
        ("/a\r\nset-cookie: b=c", b"/a%0D%0Aset-cookie%3A%20b%3Dc"),
        ("/\t/evil.example", b"/%09/evil.example"),
        ("/글?#", b"/%EA%B8%80%3F%23"),
    ],
)
def test_the_token_leads_nowhere_else(path: str, place: bytes) -> None:
    answer = ask(OPEN, host="192.168.1.7:8300", path=path, query="token=secret1")
    assert dict(answer["headers"])[b"location"] == place


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

    with pytest.raises(ConfigError) as error:
        serve(Path("runs"), Address(host="0.0.0.0"))
    assert error.value.code == "config.no_token"
    with pytest.raises(ConfigError) as error:
        serve(Path("runs"), Address(host="0.0.0.0", token="a; Path=/"))
    assert error.value.code == "config.bad_token"


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("pc", False)],
)
def test_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local
