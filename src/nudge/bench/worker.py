"""One contender in its own process: `python -m nudge.bench.worker`, which takes requests as lines of JSON.

    -> {"prepare": "nudge.bench.training:nanogpt", "options": {...}}     <- {"ready": {"version": "..."}}
    -> {"round": 0}                                                      <- {"figures": {...}, "peak_bytes": ...}
    -> (end of input)                                                    the process ends at once

Between rounds it waits for its next line and computes nothing. The answer to a failed request is {"failed": why}.
"""

import contextlib
import importlib
import json
import os
import select
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import psutil

from nudge.bench.peers import Figures, NotHereError, Prepared, peak_bytes


def main() -> None:
    """Answer each line of input with one line."""
    answers = _own_standard_output()
    threading.Thread(target=_end_with_the_input, daemon=True).start()
    play: Callable[[], Figures] | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if play is None:
                version, play = _prepare(request["prepare"], request["options"])
                answer: dict[str, Any] = {"ready": {"version": version}}
            else:
                figures = dict(play())
                answer = {"peak_bytes": figures.pop("peak_bytes", None) or peak_bytes(), "figures": figures}
        except NotHereError as error:
            answer = {"failed": str(error)}
        except Exception as error:  # whatever a peer raises: report it, and the others go on
            answer = {"failed": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}
            traceback.print_exc()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _end_with_the_input() -> None:
    """End this process and its children once the input is closed, because `nudge bench` ended or was killed."""
    closing = select.poll()
    closing.register(sys.stdin, select.POLLHUP)  # only that: the main thread reads the input
    closing.poll()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(0)


def _prepare(name: str, options: dict[str, Any]) -> Prepared:
    """Call `module:function` to prepare a contender, and reset the peak of memory after it."""
    module, _, function = name.partition(":")
    version, play = getattr(importlib.import_module(module), function)(**options)
    _forget_peak()
    return version, play


def _own_standard_output() -> TextIO:
    """Return the real standard output, for answers only; what contenders print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _forget_peak() -> None:
    """Reset the peak of memory, so that it is that of training or decoding, not of converting weights."""
    with contextlib.suppress(OSError):  # Linux only (Source: proc(5), clear_refs)
        Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
