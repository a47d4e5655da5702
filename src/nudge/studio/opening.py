"""Showing the one-time address: in the terminal, and on a desktop in the browser.

The arguments of a browser are visible to all users of a machine, and whoever opens the address first is let in. So the
browser gets the name of a private file that leads there, as Jupyter does it.
"""

import contextlib
import os
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path

_FILE = """<!doctype html>
<meta charset="utf-8"><meta name="referrer" content="no-referrer"><title>nudge studio</title>
<meta http-equiv="refresh" content="0;url={url}">
<a href="{url}">nudge studio</a>
"""


class Opening:
    """Shows the one-time addresses of the studio at `url`, one after another; `say` prints a line."""

    def __init__(self, url: str, say: Callable[[str], None]) -> None:
        self.url = url
        self._print = say
        self._file: Path | None = None
        self._n_shown = 0

    def show(self, code: str) -> None:
        """Print the address with a new code. The first one is opened in the browser."""
        self.close()
        url = f"{self.url}?once={code}"
        self._n_shown += 1
        if self._n_shown > 1:
            return self._say(f"another browser: {url}")
        self._say(f"nudge studio: {url}  (works once; Control-C stops the studio)")
        if _has_desktop():
            with contextlib.suppress(OSError):  # the address is in the terminal
                self._file = _private_file(_FILE.format(url=url))
                # Some browsers come back only when they are closed.
                threading.Thread(target=_open, args=(self._file.as_uri(),), daemon=True).start()
        return None

    def show_open(self) -> None:
        """Print the address of a studio that needs no code."""
        self._say(f"nudge studio: {self.url}  (open to every user of this machine; Control-C stops the studio)")

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads it any more
            self._print(line)

    def close(self) -> None:
        """Delete the file: its code was used, or the studio ends."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)
            self._file = None


def _has_desktop() -> bool:
    """Return whether a person at this machine's own screen started the studio."""
    screen = sys.platform == "darwin" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    return screen and sys.stdout.isatty() and "SSH_CONNECTION" not in os.environ


def _open(uri: str) -> None:
    with contextlib.suppress(OSError, webbrowser.Error):
        webbrowser.open(uri)


def _private_file(content: str) -> Path:
    """Write a file that only this user can read, in the home folder: a browser in a sandbox sees no other.

    Raises: OSError, also where a file system cannot keep a file private.
    """
    number, name = tempfile.mkstemp(prefix="nudge-studio-", suffix=".html", dir=Path.home())
    with os.fdopen(number, "w", encoding="utf-8") as file:
        if os.fstat(number).st_mode & 0o077:
            Path(name).unlink()
            raise PermissionError(name)
        file.write(content)
    return Path(name)
