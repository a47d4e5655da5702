"""What commands print without a console. Only this module and output.py, whose console is for tables, may print.

A token, a name in a file or a model's text may hold anything, also what a terminal obeys: such characters are shown,
not sent, even if a file or another program reads the output, because a terminal may show it later. Two things are
exact: the values in JSON, by its own escapes, and what `write` writes to a file or another program.
"""

import codecs
import io
import json
import math
import re
import sys
import traceback
from collections.abc import Mapping
from typing import Any

import click

from nudge.util.terminal_text import is_plain, make_readable, one_line


def echo(text: str = "", *, err: bool = False, nl: bool = True, **style: Any) -> None:
    """Print one line. `err`: on standard error. `style`: as for click.style."""
    _print(_styled(one_line(text), style), err=err, nl=nl)


def echo_json(value: Any, *, indent: int | None = None, err: bool = False) -> None:
    """Print a value as JSON, `err`: on standard error. NaN and infinity, which JSON does not have, become null."""
    text = json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)
    _print("".join(one if is_plain(one) else json.dumps(one)[1:-1] for one in text), err=err)


def write(data: bytes, **style: Any) -> None:
    """Write a model's text or a file's content at once: every byte as it is, on a terminal readable and in a style."""
    if sys.stdout.isatty():
        _print(_styled(make_readable(data.decode("utf-8", errors="replace")), style), nl=False)
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


# What stands for our own signs where a terminal or a file takes only ASCII, or an old code page.
_PLAIN = {"·": "-", "…": "...", "–": "-", "—": "-", "×": "x", "→": "->", "±": "+-", "≤": "<=", "≥": ">="}
_PLAIN |= dict.fromkeys("█■", "#") | dict.fromkeys("▏▎▍▌▋▊▉━╸╺─", "-") | dict.fromkeys("│┃", "|") | {"░": "."}
_POWERS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


def print_any_text() -> None:
    """Make standard output and standard error take any text, whatever their encoding."""
    codecs.register_error("nudge", _in_plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="nudge")


def _in_plain(error: UnicodeError) -> tuple[str, int]:
    """Return what to write for characters that an encoding lacks, and where to go on: for codecs.register_error."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    text = re.sub("[⁰¹²³⁴-⁹⁻]+", lambda power: "^" + power[0].translate(_POWERS), text)
    return "".join(_PLAIN.get(one, one.encode("ascii", "backslashreplace").decode()) for one in text), error.end


def show_bug(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Print a traceback, as sys.excepthook does: a message may quote a file."""
    _print(make_readable("".join(traceback.format_exception(kind, error, trace))), err=True, nl=False)


def _print(text: str, *, err: bool = False, nl: bool = True) -> None:
    # With its own choice of a stream, click would send UTF-8 to a terminal that takes only ASCII.
    click.echo(text, file=sys.stderr if err else sys.stdout, nl=nl)


def _styled(shown: str, style: dict[str, Any]) -> str:
    return click.style(shown, **style) if style and shown else shown


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value
