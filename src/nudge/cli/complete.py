"""What a shell proposes for the options whose values are names. Click itself proposes options, choices and files."""

from collections.abc import Callable, Iterable
from typing import Any

import click

Completion = Callable[[click.Context, click.Parameter, str], list[str]]


def _of(names: Callable[[], Iterable[str]]) -> Completion:
    """Return a function for `shell_complete` that proposes the names that begin as the typed word."""
    return lambda context, parameter, begun: [name for name in names() if name.startswith(begun)]


def _recipes() -> Iterable[str]:
    from nudge.recipes import RECIPES

    return RECIPES


def _gpus() -> Iterable[str]:
    from nudge.plan.hardware import DEVICES

    return ("cpu", *DEVICES)


def _settings() -> Iterable[str]:
    from nudge import config

    return (f"{key}=" for key in config.keys())  # noqa: SIM118 (a function)


recipes, gpus = _of(_recipes), _of(_gpus)


def set_option(text: str) -> Callable[[Any], Any]:
    """Return the option --set, with its help."""
    return click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE", shell_complete=_of(_settings), help=text
    )
