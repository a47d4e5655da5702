"""Access control: every request and every websocket is checked before any page sees it.

A page on the internet can make a browser send requests to 127.0.0.1. It can choose neither the Host header (DNS
rebinding) nor the Origin (cross-site), so both are checked. Requests for an image or a script carry no Origin, but the
browser adds whether another site's page made them (Source: W3C, Fetch Metadata Request Headers). Other users of this
machine need no browser, and can send any header: they lack the session (see keys.py).
"""

import ipaddress
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response

from nudge.studio import door
from nudge.studio.keys import Keys

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(\d{1,5}))?", re.ASCII)
_FORM_BYTES = 4096
# Nobody needs them here: Range can ask for thousands of parts of a file, and NiceGUI writes the prefix into pages.
_DROPPED = {b"range", b"x-forwarded-prefix"}
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
# Why each exception: see docs/studio.md.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; script-src-attr 'none'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_DRAWING_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; frame-ancestors 'none'"
_POLICIES = {"text/html": _PAGE_POLICY, "image/svg+xml": _DRAWING_POLICY}
_CACHED = ("/_nicegui/", "/static/")  # published code; everything else may hold what a person wrote


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach that address."""
    address = _address(host.strip("[]"))
    return host == "localhost" or (address is not None and address.is_loopback)


class Guard:
    """An ASGI application around another one: foreign requests get a 403, and those without a session a 401.

    `host` is the address that the server listens on, `names` are others by which a proxy reaches it. `keys` None: no
    session is required (loopback only).
    """

    def __init__(self, app: App, *, host: str, keys: Keys | None, names: Iterable[str] = ()) -> None:
        self.app = app
        self.keys = keys
        self.names = {"localhost", host.lower(), socket.gethostname().lower(), *(name.lower() for name in names)}
        self.loopback_only = is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):  # startup and shutdown
            await self.app(scope, receive, send)
            return
        headers = [(name, value) for name, value in scope["headers"] if name not in _DROPPED]
        scope = {**scope, "headers": headers, "nonce": secrets.token_urlsafe(16)}
        request = HTTPConnection(scope)
        if reason := self.refusal(request.headers):
            answer: App = door.page(request, reason, 403)
        elif self._is_open(request):
            answer = RedirectResponse(door.here(request), 303) if _code(request) else self.app
        else:
            answer = await self._entrance(request, receive)
        if scope["type"] == "websocket" and answer is not self.app:
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: the client gets a 403
        else:
            await answer(scope, receive, _with_headers(send, scope))

    def refusal(self, headers: Headers) -> str:
        """Return why a request with these headers is refused: "name" or "site"; '' if it is accepted."""
        hosts = headers.getlist("host")
        host = hosts[0].lower() if len(hosts) == 1 else ""
        if not (match := _HOST.fullmatch(host)) or not self._is_ours(match[1].strip("[]")):
            return "name"
        site, mode, place = (headers.get(f"sec-fetch-{part}", "") for part in ("site", "mode", "dest"))
        is_link = mode == "navigate" and place == "document"  # which a person follows
        if site in ("cross-site", "same-site") and not is_link:
            return "site"
        ours = (f"http://{host}", f"https://{host}")  # https: a proxy's
        return "" if all(origin.lower() in ours for origin in headers.getlist("origin")) else "site"

    def _is_ours(self, name: str) -> bool:
        address = _address(name)
        if name in self.names or address is None:
            return name in self.names
        return address.is_loopback or not self.loopback_only  # only names can be rebound

    def _is_open(self, request: HTTPConnection) -> bool:
        if self.keys is None or request.scope["path"] == door.STYLE:
            return True
        return self.keys.knows(request.cookies.get(_cookie(request), ""))

    async def _entrance(self, request: HTTPConnection, receive: Receive) -> Response:
        """Answer a request without a session: it may bring the one-time code or the token."""
        assert self.keys is not None, "without keys every request is let in"
        has_token, method = self.keys.token is not None, request.scope.get("method")
        if method == "GET" and (code := _code(request)):
            session = self.keys.use_code(code)
            return _enter(request, session) if session else door.page(request, "used", 401, form=has_token)
        if (
            has_token
            and method == "POST"
            and request.headers.get("content-type") == "application/x-www-form-urlencoded"
        ):
            if self.keys.is_closed:
                return door.page(request, "wait", 429, form=True)
            session = self.keys.use_token(await _token(receive))
            return _enter(request, session) if session else door.page(request, "wrong", 401, form=True)
        if method == "GET" and request.headers.get("sec-fetch-site") == "cross-site":
            # A link elsewhere, or the file of opening.py. The browser then leaves a Strict cookie out, so the page
            # makes it ask once more, and this time the request comes from here.
            return door.page(request, "opening", 200, again=True)
        return door.page(request, "token_needed" if has_token else "locked", 401, form=has_token)


def _code(request: HTTPConnection) -> str:
    return request.query_params.get("once", "")


def _cookie(request: HTTPConnection) -> str:
    """Return the name of the cookie: browsers send cookies to all ports of a host, so each port has its own."""
    match = _HOST.fullmatch(request.headers["host"].lower())
    return f"nudge_session_{(match and match[2]) or 80}"


def _enter(request: HTTPConnection, session: str) -> Response:
    response = RedirectResponse(door.here(request), 303)
    # A browser that came over TLS, to a proxy, names it in the Origin of the form.
    secure = request.headers.get("origin", "").startswith("https:")
    response.set_cookie(_cookie(request), session, path="/", httponly=True, samesite="strict", secure=secure)
    return response


async def _token(receive: Receive) -> str:
    """Return the token in a form, or '' if there is none or the form is too long."""
    body, more = b"", True
    while more and len(body) <= _FORM_BYTES:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0] if len(body) <= _FORM_BYTES else ""


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _with_headers(send: Send, scope: Scope) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            old = Headers(raw=list(message.get("headers", ())))
            policy = _POLICIES.get(old.get("content-type", "").partition(";")[0], "frame-ancestors 'none'")
            ours = {**_HEADERS, "content-security-policy": policy.format(nonce=scope["nonce"])}
            if not scope["path"].startswith(_CACHED):
                ours["cache-control"] = "no-store"
            kept = [(name, value) for name, value in old.raw if name.decode("latin-1").lower() not in ours]
            extra = [(name.encode(), value.encode()) for name, value in ours.items()]
            message = {**message, "headers": [*kept, *extra]}
        await send(message)

    return sending
