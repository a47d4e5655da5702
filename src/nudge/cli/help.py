"""Help that fits a narrow terminal: no word is cut, and a command in an example can be pasted however it is wrapped."""

import re
import textwrap
from collections.abc import Iterable, Iterator

import click

# Words of a command that stay on one line: a quotation, an option with its value.
TOGETHER = re.compile(r"""(?:--?[\w-]+ (?!-))?(?:"[^"]*"|'[^']*'|\S)+""")


class Help(click.HelpFormatter):
    """Click's formatter, except that it never breaks a line within a word or at a hyphen."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        first = f"{prefix or 'Usage: '}{prog} "
        self.write("\n".join(_wrapped(args, self.width, first, " " * 11)) + "\n")

    def write_text(self, text: str) -> None:
        """Write paragraphs. The lines of one that begins with a \\b keep their ends: they are examples."""
        width = self.width - self.current_indent
        for number, paragraph in enumerate(text.split("\n\n")):
            example = paragraph.startswith("\b\n")
            lines = _examples(paragraph[2:].splitlines(), width) if example else _wrapped(paragraph, width)
            self.write("\n" * (number > 0) + textwrap.indent("\n".join(lines), " " * self.current_indent) + "\n")

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write names and their descriptions. Names have at most two fifths of the width, or a line of their own."""
        rows = list(rows)
        room = min(col_max, self.width * 2 // 5)
        column = min(max(len(name) for name, _ in rows), room)
        margin = " " * self.current_indent
        for name, description in rows:
            lines = _wrapped(description, self.width - column - col_spacing - self.current_indent)
            if len(name) > column:
                self.write(f"{margin}{name}\n")
                name = ""
            for line in lines or [""]:
                self.write(f"{margin}{name:<{column + col_spacing}}{line}".rstrip() + "\n")
                name = ""


class Context(click.Context):
    """The context of a command whose help is a Help."""

    formatter_class = Help


def _wrapped(text: str, width: int, first: str = "", others: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _examples(lines: list[str], width: int) -> Iterator[str]:
    """Yield lines of examples. If one is too long, each purpose is on a line of its own, and commands are continued."""
    if max(map(len, lines)) <= width:
        yield from lines
        return
    for line in lines:
        command, _, purpose = line.strip().partition("   ")
        if line == line.strip():  # the heading
            yield line
            continue
        yield from _continued(command, width)
        yield from _wrapped(purpose.strip(), width, " " * 6, " " * 6)


def _continued(command: str, width: int) -> Iterator[str]:
    """Yield the lines of a command, each but the last with the backslash that continues it in a shell."""
    line = " "
    for words in TOGETHER.findall(command):
        if len(line) + 1 + len(words) + 2 > width and line.strip():
            yield f"{line} \\"
            line = " " * 5
        line += f" {words}"
    yield line
