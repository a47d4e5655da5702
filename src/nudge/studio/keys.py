"""What opens a studio: a one-time code, the token of a team, and the sessions of the browsers that showed one.

On a machine that others share, they can reach 127.0.0.1 too, and read the arguments of every process. So no secret is
an argument, a code is worth nothing once it has been used, and a browser keeps neither: it gets a session of its own.
"""

import hashlib
import hmac
import os
import secrets
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

from nudge.errors import ConfigError, first_line

VARIABLE = "NUDGE_STUDIO_TOKEN"
N_SESSIONS = 1000
_LEAST_LETTERS, _LEAST_DIFFERENT, _MOST_BYTES = 16, 8, 1024
_WRONG_TOKEN_S = 1.0  # the form is closed for so long after a wrong token


class Keys:
    """The keys of one studio. `announce` shows each new one-time code to the person who started it."""

    def __init__(self, announce: Callable[[str], None], token: str | None = None) -> None:
        self.token = token
        self._announce = announce
        self._code = ""  # none before the first `renew`
        self._sessions: dict[bytes, None] = {}  # digests, the oldest first
        self._closed_until = 0.0

    def renew(self) -> None:
        """Replace the one-time code by a new one."""
        self._code = secrets.token_urlsafe(32)
        self._announce(self._code)

    def use_code(self, given: str) -> str | None:
        """Use up the one-time code and return a new session; None if it is another one or was used before."""
        if not self._code or not _is_same(given, self._code):
            return None
        self.renew()
        return self._new_session()

    def use_token(self, given: str) -> str | None:
        """Return a new session for the token. After a wrong one, `is_closed` is true for a second."""
        if self.token is None or not _is_same(given, self.token):
            self._closed_until = time.monotonic() + _WRONG_TOKEN_S
            return None
        return self._new_session()

    @property
    def is_closed(self) -> bool:
        """Return whether no token is compared now, so that tokens cannot be tried quickly."""
        return time.monotonic() < self._closed_until

    def knows(self, session: str) -> bool:
        """Return whether this is the session of a browser."""
        return _digest(session) in self._sessions  # how long a look-up takes says nothing about the digest's source

    def _new_session(self) -> str:
        session = secrets.token_urlsafe(32)
        self._sessions[_digest(session)] = None
        if len(self._sessions) > N_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return session


def read_token(file: Path | None) -> str | None:
    """Return the token in a file or in NUDGE_STUDIO_TOKEN, which is removed: runs inherit the environment.

    Raises: ConfigError for two tokens, a file that others can read, and a token that is easy to guess.
    """
    token = os.environ.pop(VARIABLE, None)
    if file is not None:
        if token is not None:
            raise ConfigError("exclusive_options", options=f"--token-file, {VARIABLE}")
        token = _read_private(file)
    if token is None:
        return None
    is_plain = token.isascii() and token.isprintable() and " " not in token
    if not is_plain or len(token) < _LEAST_LETTERS or len(set(token)) < _LEAST_DIFFERENT or len(token) > _MOST_BYTES:
        raise ConfigError("weak_token", least=_LEAST_LETTERS, different=_LEAST_DIFFERENT)
    return token


def _read_private(path: Path) -> str:
    try:
        # Opening a pipe would wait for ever; Windows has no such pipes, and keeps other users out by other means.
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            if not _is_private(os.fstat(file.fileno())):
                raise ConfigError("token_file_not_private", path=path)
            return file.read(_MOST_BYTES + 2).decode("utf-8", "replace").strip()
    except OSError as error:
        raise ConfigError("token_file_unreadable", path=path, error=first_line(error)) from error


def _is_private(status: os.stat_result) -> bool:
    if sys.platform == "win32":
        return stat.S_ISREG(status.st_mode)
    return stat.S_ISREG(status.st_mode) and status.st_uid in (os.geteuid(), 0) and not status.st_mode & 0o077


def _is_same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode())


def _digest(session: str) -> bytes:
    return hashlib.sha256(session.encode("utf-8", "replace")).digest()
