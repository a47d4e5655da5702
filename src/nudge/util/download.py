"""Download a file over a network that may fail. The file appears whole and as expected, or not at all.

After a cut connection the download goes on where it stopped: `Range` asks for the rest, and `If-Range` for all of it if
the file has changed. A server that knows neither sends the file again. Sources: RFC 9110, sections 13 to 15; git's
documentation of hash-object.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from nudge.errors import DataError, MachineError
from nudge.util import files

if TYPE_CHECKING:
    from requests import Response, Session

TIMEOUT_S = 20  # for a connection, and for each piece of an answer
WAITS_S = (0.5, 1, 2, 4, 8)  # before each further try
LONGEST_WAIT_S = 60  # that a server may ask for
MOST_REDIRECTS = 5
_CHUNK_BYTES = 1 << 14  # what is lost of a piece that a cut connection ends in


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file at an address, and what it must be. `digest`: sha256:HEX, or git:HEX for the id of a blob."""

    url: str
    n_bytes: int
    digest: str

    def is_at(self, path: Path) -> bool:
        """Return whether `path` is this file. Raises: OSError if it cannot be read."""
        if not path.is_file() or path.stat().st_size != self.n_bytes:
            return False
        hasher = self.hasher()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                hasher.update(chunk)
        return self.is_digest(hasher)

    def hasher(self) -> Any:
        if self.digest.startswith("git:"):
            return hashlib.sha1(b"blob %d\0" % self.n_bytes, usedforsecurity=False)
        return hashlib.sha256()

    def is_digest(self, hasher: Any) -> bool:
        return bool(hasher.hexdigest() == self.digest.partition(":")[2])


def download(remote: RemoteFile, path: Path) -> Iterator[int]:
    """Download a file to `path`; yield the number of bytes so far.

    Raises: MachineError without a network, for a server that refuses or goes on failing, and if `path` cannot be
    written; DataError if the file is another one.
    """
    import requests  # late: it takes a tenth of a second

    with files.atomic_writer(path) as out, requests.Session() as session:
        part = _Part(remote, out)
        for wait_s in (*WAITS_S, None):
            try:
                with _explain_failures(part):
                    yield from part.receive(session)
                break
            except _FailedError as error:
                if wait_s is None or not error.again or error.wait_s > LONGEST_WAIT_S:
                    raise MachineError("download_failed", url=remote.url, error=str(error)) from error
                time.sleep(max(wait_s, error.wait_s))
        if not remote.is_digest(part.hasher):
            raise DataError("wrong_download", url=remote.url, found="another content")


class _FailedError(Exception):
    """A try that failed. `again`: another one, after `wait_s` or more, may succeed."""

    def __init__(self, reason: str, *, again: bool, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.again, self.wait_s = again, wait_s


class _Part:
    """The part of a file that has been received so far."""

    def __init__(self, remote: RemoteFile, out: files.HashingFile) -> None:
        self.remote, self.file = remote, out.file
        self.answered = False  # a server was reached
        self.restart()

    def restart(self) -> None:
        self.file.seek(0)  # all bytes will be written over: a part is never longer than the file
        self.n_bytes = 0
        self.hasher = self.remote.hasher()
        self.validator: str | None = None  # marks the content that the bytes are of

    def receive(self, session: "Session") -> Iterator[int]:
        """Ask for what is missing and write it; yield the number of bytes so far. Raises: DataError, _FailedError."""
        headers = {"Accept-Encoding": "identity"}
        if self.n_bytes and self.validator:
            headers |= {"Range": f"bytes={self.n_bytes}-", "If-Range": self.validator}
        with _follow(session, self.remote.url, headers) as answer:
            self.answered = True
            self._check(answer)
            for chunk in answer.iter_content(_CHUNK_BYTES):
                self.file.write(chunk)
                self.hasher.update(chunk)
                self.n_bytes += len(chunk)
                if self.n_bytes > self.remote.n_bytes:
                    raise DataError(
                        "wrong_download", url=self.remote.url, found=f"more than {self.remote.n_bytes:,} bytes"
                    )
                yield self.n_bytes
        if self.n_bytes < self.remote.n_bytes:
            raise _FailedError(f"it ended after {self.n_bytes:,} of {self.remote.n_bytes:,} bytes", again=True)

    def _check(self, answer: "Response") -> None:
        """Check that the body of an answer goes on where this part ends, or starts anew.

        Raises: _FailedError; DataError if it is another file by its length.
        """
        status, validator = answer.status_code, _validator(answer)
        length = answer.headers.get("Content-Length", "")
        if status == 200:
            if length.isdecimal() and int(length) != self.remote.n_bytes and "Content-Encoding" not in answer.headers:
                raise DataError("wrong_download", url=self.remote.url, found=f"{int(length):,} bytes")
            self.restart()
            self.validator = validator
        elif status == 206 and self._continues(answer, validator):
            pass
        elif status in (206, 416):
            self.restart()
            raise _FailedError("the server sends another part than the one asked for", again=True)
        else:
            wait_s = _retry_after_s(answer)
            later = f", and asks to wait for {wait_s:,.0f} seconds" if wait_s > LONGEST_WAIT_S else ""
            reason = f"the server answers {status} {answer.reason}{later}"
            raise _FailedError(reason, again=status == 429 or status >= 500, wait_s=wait_s)

    def _continues(self, answer: "Response", validator: str | None) -> bool:
        starts_here = answer.headers.get("Content-Range", "").startswith(f"bytes {self.n_bytes}-")
        return bool(self.n_bytes) and starts_here and validator in (None, self.validator)


def _follow(session: "Session", url: str, headers: dict[str, str]) -> "Response":
    """Return the first answer that is no redirect, its body not read yet. Raises: _FailedError."""
    for _ in range(MOST_REDIRECTS + 1):
        answer = session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S, allow_redirects=False)
        if not answer.is_redirect:
            return answer
        answer.close()
        target = urljoin(url, session.get_redirect_target(answer) or "")
        if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
            raise _FailedError(f"it is redirected from https to {urlsplit(target).scheme}", again=False)
        url = target
    raise _FailedError(f"it is redirected more than {MOST_REDIRECTS} times", again=False)


def _validator(answer: "Response") -> str | None:
    """Return what marks the content of an answer: a strong ETag or its date; None if bytes cannot be compared by it."""
    if "Content-Encoding" in answer.headers:  # packed although not asked to be: its bytes are not the file's
        return None
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified")


def _retry_after_s(answer: "Response") -> float:
    """Return for how many seconds a server asks to wait: 0 if it does not."""
    given = answer.headers.get("Retry-After", "")
    if given.isdecimal():
        return float(given)
    try:
        return parsedate_to_datetime(given).timestamp() - time.time()
    except ValueError:
        return 0.0


@contextlib.contextmanager
def _explain_failures(part: _Part) -> Iterator[None]:
    """Turn the errors of requests, whose messages have several lines, into a _FailedError."""
    import requests

    try:
        yield
    except requests.RequestException as error:
        if isinstance(error, requests.Timeout):
            reason = f"no answer within {TIMEOUT_S} seconds"
        elif part.answered:
            reason = f"the connection broke after {part.n_bytes:,} of {part.remote.n_bytes:,} bytes"
        else:
            reason = "no connection" if type(error) is requests.ConnectionError else type(error).__name__
        raise _FailedError(reason, again=part.answered) from error
