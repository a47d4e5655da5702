"""Access control: every request and every websocket is checked before any page sees it.

A page on the internet can make a browser send requests to 127.0.0.1. It can choose neither the Host header (DNS
rebinding) nor the Origin (cross-site), so both are checked. Requests for an image or a script carry no Origin, but the
browser adds whether another site's page made them (Source: W3C, Fetch Metadata Request Headers). An address that other
machines can reach requires a token as well.
"""

import hmac
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "nudge_token"
_HEADERS = [
    # Everything comes from this server; NiceGUI writes its own scripts and styles into the page.
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        b"img-src 'self' data:; font-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """An ASGI application around another one that answers strangers with 403, and 401 where the token is missing.

    `host` is the address that the server listens on. `token` None: none is required (loopback only).
    """

    def __init__(self, app: App, *, host: str, token: str | None) -> None:
        self.app = app
        self.token = token
        self.names = {"localhost", host.lower(), socket.gethostname().lower()}
        self.loopback_only = is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):  # startup and shutdown
            await self.app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if reason := self.refusal(headers):
            await _answer(scope, send, 403, reason)
        elif self._has_token(headers.get(b"cookie", "")):
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "http" and (place := self._place_after_token(scope)) is not None:
            cookie = f"{COOKIE}={self.token}; Path=/; HttpOnly; SameSite=Strict"
            await _answer(scope, send, 303, "", (b"location", place.encode()), (b"set-cookie", cookie.encode()))
        else:
            await _answer(scope, send, 401, "this studio requires its token: open the address with ?token=...")

    def refusal(self, headers: Mapping[bytes, str]) -> str:
        """Return why a request with these headers is refused; '' if it is not."""
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        name = _name(host)
        if not self._is_ours(name):
            return f"this studio does not answer to the name {name[:100]!r}"
        is_foreign = headers.get(b"sec-fetch-site") == "cross-site" and headers.get(b"sec-fetch-mode") != "navigate"
        if is_foreign or (origin is not None and _place(origin) != host.lower()):
            return "this studio does not answer to other web sites"
        return ""

    def _is_ours(self, name: str) -> bool:
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self.loopback_only  # only names can be rebound

    def _has_token(self, cookie: str) -> bool:
        return self.token is None or _same(_cookie(cookie), self.token)

    def _place_after_token(self, scope: Scope) -> str | None:
        """Return the address without its token, if the token is right."""
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if not _same(dict(query).get("token", ""), self.token or ""):
            return None
        rest = urlencode([(key, value) for key, value in query if key != "token"])
        # "//elsewhere" would be another machine, and browsers read "\\" as "/".
        path = "/" + quote(scope["path"].lstrip("/\\"))
        return path + (f"?{rest}" if rest else "")


def _name(host: str) -> str:
    """Return the host of a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _place(origin: str) -> str | None:
    """Return the host and port of an Origin header; None if it has none."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _same(given: str, wanted: str) -> bool:
    return bool(wanted) and hmac.compare_digest(given.encode(), wanted.encode())


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return sending


async def _answer(scope: Scope, send: Send, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})  # before it is accepted: the client gets a 403
        return
    plain = (b"content-type", b"text/plain; charset=utf-8")
    await send({"type": "http.response.start", "status": status, "headers": [plain, *headers, *_HEADERS]})
    await send({"type": "http.response.body", "body": text.encode()})
