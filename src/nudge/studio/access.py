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
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "nudge_token"
_HEADERS = {
    # Everything comes from this server; NiceGUI writes its own scripts and styles into the page.
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach that address."""
    address = _address(host.strip("[]"))
    return host == "localhost" or (address is not None and address.is_loopback)


class Guard:
    """An ASGI application around another one: it answers forbidden requests with 403, and a missing token with 401.

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
        request = HTTPConnection(scope)
        headers: dict[str, str] = {}
        if reason := self.refusal(request.headers):
            status = 403
        elif self.token is None or self._is_token(request.cookies.get(COOKIE, "")):
            await self.app(scope, receive, _with_headers(send))
            return
        elif scope["type"] == "http" and self._is_token(request.query_params.get("token", "")):
            status = 303
            cookie = f"{COOKIE}={self.token}; Path=/; HttpOnly; SameSite=Strict"
            headers = {"location": _without_token(request), "set-cookie": cookie}
        else:
            status, reason = 401, "this studio requires its token: open the address with ?token=..."
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: the client gets a 403
        else:
            await PlainTextResponse(reason, status, {**headers, **_HEADERS})(scope, receive, send)

    def refusal(self, headers: Mapping[str, str]) -> str:
        """Return the reason why a request with these headers is refused; '' if it is accepted."""
        host, origin = headers.get("host", ""), headers.get("origin")
        name = _name(host)
        if not self._is_ours(name):
            return f"this studio does not answer to the name {name[:100]!r}"
        is_foreign = headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"
        if is_foreign or (origin is not None and _place(origin) != host.lower()):
            return "this studio does not answer to other web sites"
        return ""

    def _is_ours(self, name: str) -> bool:
        address = _address(name)
        if name in self.names or address is None:
            return name in self.names
        return address.is_loopback or not self.loopback_only  # only names can be rebound

    def _is_token(self, given: str) -> bool:
        return bool(self.token) and hmac.compare_digest(given.encode(), str(self.token).encode())


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


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


def _without_token(request: HTTPConnection) -> str:
    """Return the address of a request without its token."""
    rest = urlencode([(key, value) for key, value in request.query_params.multi_items() if key != "token"])
    # "//elsewhere" would be another machine, and browsers read "\\" as "/".
    path = "/" + quote(request.scope["path"].lstrip("/\\"))
    return path + (f"?{rest}" if rest else "")


def _with_headers(send: Send) -> Send:
    extra = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *extra]}
        await send(message)

    return sending
