"""The process of one contender: `python -m nudge.bench.worker` reads requests as lines of JSON.

    -> {"prepare": "nudge.bench.training:nanogpt", "options": {...}}     <- {"ready": {"version": "..."}}
    -> {"round": 0}                                                      <- {"figures": {...}, "peak_bytes": ...}
    -> (end of input)                                                    the process ends at once

Between rounds it waits for the next line and computes nothing. The answer to a failed request is {"failed": reason}.
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
    run_round: Callable[[], Figures] | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if run_round is None:
                version, run_round = _prepare(request["prepare"], request["options"])
                answer: dict[str, Any] = {"ready": {"version": version}}
            else:
                figures = dict(run_round())
                answer = {"peak_bytes": figures.pop("peak_bytes", None) or peak_bytes(), "figures": figures}
        except NotHereError as error:
            answer = {"failed": str(error)}
        except Exception as error:  # report any error of a peer, so that the others go on
            answer = {"failed": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}
            traceback.print_exc()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _end_with_the_input() -> None:
    """End this process and its children when the input is closed: `nudge bench` ended or was killed.

    On Windows, which cannot wait for that, the process ends after its round.
    """
    if sys.platform == "win32":
        return
    closing = select.poll()
    closing.register(sys.stdin, select.POLLHUP)  # no other event: the main thread reads the input
    closing.poll()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(0)


def _prepare(name: str, options: dict[str, Any]) -> Prepared:
    """Call `module:function` to prepare a contender, then reset the peak of memory."""
    module, _, function = name.partition(":")
    version, run_round = getattr(importlib.import_module(module), function)(**options)
    _forget_peak()
    return version, run_round


def _own_standard_output() -> TextIO:
    """Return the real standard output for answers; redirect the contenders' prints to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _forget_peak() -> None:
    """Reset the peak of memory, so that it does not include the conversion of weights."""
    with contextlib.suppress(OSError):  # Linux only (Source: proc(5), clear_refs)
        Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
