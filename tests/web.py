"""A web server on this machine that misbehaves as it is told: each request gets the next answer of a list."""

import contextlib
import email.utils
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.waiting import LONG_S

Answer = Callable[["Handler"], None]


@dataclass
class Site:
    """The answers to come, the last of which is repeated, and the requests so far."""

    url: str
    answers: list[Answer] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)  # their headers in lower case, and the path
    over: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        self.site.requests.append({name.lower(): value for name, value in self.headers.items()} | {"path": self.path})
        answer = self.site.answers[0] if len(self.site.answers) == 1 else self.site.answers.pop(0)
        with contextlib.suppress(OSError):  # the client is gone
            answer(self)
        self.close_connection = True

    def head(self, status: int, **headers: str | int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


@contextlib.contextmanager
def serving(*answers: Answer, certificate: Path | None = None) -> Iterator[Site]:
    """Serve until the block ends. `certificate`: a file with a key and a certificate, for https."""
    site = Site("", list(answers))
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OfSite", (Handler,), {"site": site}))
    server.daemon_threads = False  # each answer has ended when the block ends
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *request: None  # type: ignore[method-assign]  (a client that does not trust it)
    site.url = f"http{'s' * bool(certificate)}://127.0.0.1:{server.server_port}/text.txt"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield site
    finally:
        site.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def whole(content: bytes, *, sent: int | None = None, length: bool = True, **headers: str) -> Answer:
    """All of the content; `sent`: the connection is cut after so many bytes. `length`: its length is told."""

    def answer(handler: Handler) -> None:
        handler.head(200, **headers, **({"Content_Length": len(content)} if length else {}))
        handler.wfile.write(content[:sent])

    return answer


def ranged(content: bytes, tag: str, *, sent: int | None = None, honest: bool = True) -> Answer:
    """The range that is asked for, if `tag` is still the content's, as RFC 9110 wants it; cut after `sent` bytes.

    `honest`: without it, the tag that is asked for is ignored.
    """

    def answer(handler: Handler) -> None:
        start = re.fullmatch("bytes=([0-9]+)-", handler.headers.get("Range", ""))
        if start is None or (honest and handler.headers.get("If-Range", tag) != tag):
            whole(content, sent=sent, ETag=tag)(handler)
            return
        first, last = int(start[1]), len(content) - 1
        place = f"bytes {first}-{last}/{len(content)}"
        handler.head(206, ETag=tag, Content_Range=place, Content_Length=len(content) - first)
        handler.wfile.write(content[first:][:sent])

    return answer


def status(number: int, **headers: str | int) -> Answer:
    return lambda handler: handler.head(number, Content_Length=0, **headers)


def silent(handler: Handler) -> None:
    """No answer until the test ends."""
    handler.site.over.wait(LONG_S)


def stalled(content: bytes, sent: int, **headers: str) -> Answer:
    """The beginning of the content, and then nothing until the test ends."""

    def answer(handler: Handler) -> None:
        whole(content, sent=sent, **headers)(handler)
        handler.wfile.flush()
        silent(handler)

    return answer


def endless(handler: Handler) -> None:
    """Bytes until the client goes away, without their number."""
    handler.head(200)
    try:
        while not handler.site.over.is_set():
            handler.wfile.write(bytes(1 << 16))
    except OSError:
        handler.site.requests[-1]["end"] = "the client went away"


def slowly(content: bytes, ready: threading.Event) -> Answer:
    """All of the content, but its last byte only when `ready` is set."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Length=len(content))
        handler.wfile.write(content[:-1])
        handler.wfile.flush()
        ready.wait(LONG_S)
        handler.wfile.write(content[-1:])

    return answer


def http_date(timestamp: float) -> str:
    return email.utils.formatdate(timestamp, usegmt=True)


def closed_port() -> int:
    """A port of this machine that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
