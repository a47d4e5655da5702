"""Write commands.md from the commands' own help. `make docs` runs this, and a test compares."""

from collections.abc import Iterator
from pathlib import Path

import click

from nudge import cli
from nudge.cli.help import Context

PAGE = Path(__file__).with_suffix(".md")
HEAD = """# Every command

This page is the commands' own help, written by `make docs`. SOURCE is always a run folder, a checkpoint file or an
imported folder. Without it, the newest run under `runs/` is used.

An expected error is one line and a hint on standard error, and exit code 2; [every error](errors.md) has a code.
Control-C exits with 130. If nobody reads the output any more (`nudge runs | head -1`), it ends quietly with 141.
Anything else is a bug and shows its traceback.

To let your shell complete commands and options, add the output of `nudge completion bash` (or `zsh`, `fish`) to its
start-up file. With `python -m nudge` instead of `nudge`, everything is the same.
"""


def page() -> str:
    """Return the whole page."""
    root = Context(cli.cli, info_name="nudge", terminal_width=100, **cli.cli.context_settings)
    return HEAD + "".join(f"\n## {path}\n\n```text\n{text}\n```\n" for path, text in _helps(root))


def _helps(context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the path and the help of each command, groups before their commands."""
    yield context.command_path, context.get_help().rstrip()
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = cli.load(name) if context.command is cli.cli else context.command.commands[name]
            yield from _helps(Context(command, parent=context, info_name=name))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
