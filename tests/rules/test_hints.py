"""A hint that is typed works: its commands, options, settings and packages exist."""

import ast
import contextlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.rules.test_cli_help import ALL
from tests.rules.test_docs import parse
from tests.rules.test_error_codes import raised

from nudge import cli, errors
from nudge import config as configs
from nudge.config import Config

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
OF_OTHERS = {  # options of other programs that hints name
    "--nproc-per-node", "--standalone", "--max-restarts",  # torchrun
    "--cask",  # brew
    "--master-port",  # torchrun
    "--long",  # zstd
}  # fmt: skip

# What a person puts in the place of a word in capitals or of {a value}. A folder or a number can be called 4.
VALUES = {"N": "4096", "USD@DATE": "3@2026-11-20", "SECRET": "abc", "FORMAT": "hf"}
VALUES |= {"{divisible}": "64", "{whole}": "8192", "{fitting}": "16", "{usual}": "float32", "{amount}": "3"}
VALUES |= {
    "{kind}": "cuda",
    "{today}": "2026-11-20",
    "{key}": "train.lr",
    "{typed}": "train.lr=1",
    "{what}": "gpt2",
    "...": "4",
}

END = r"(?=[;)]|, |: | \(| or | and | then\b|$)"  # of what is typed in a sentence, if it is not in quotation marks
COMMAND = re.compile(rf"(?:'(nudge [^']+)'|\b(nudge (?:{'|'.join(cli.COMMANDS)})\b.*?){END})")
SETTING = re.compile(rf"--set (\S+?)(?:\s|'|{END})")
OPTION = re.compile(r"(?<![\w-])(--[a-z][\w-]+)(?:[ =]([^\s;,)']+))?")
PACKAGE = re.compile(r"pip install (?:-e )?(\S+)")
HINTS = {
    f"{family}.{name}": wording["hint"]
    for family, names in errors.catalog().items()
    for name, wording in names.items()
    if "hint" in wording
}


def printed() -> Iterator[tuple[str, str]]:
    """Yield (place, text) for each text that a command prints, or writes to be printed, with 4 for each value in it."""
    for path in sorted((ROOT / "src" / "nudge" / "cli").glob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", getattr(call.func, "attr", "")) in PRINT:
                for text in (text for part in call.args for text in texts(part)):
                    yield f"{path.name}:{call.lineno}", text


PRINT = {"echo", "print", "out", "show_next"}


def texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "4" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from texts(child)


def commands(text: str) -> list[str]:
    """The commands in a sentence, as a person would type them."""
    return [fill(found[1] or found[2]) for found in COMMAND.finditer(text)]


def fill(text: str) -> str:
    """Return a text with something right in the place of each value and of each word in capitals."""
    words = re.split(r"(\{[^}]*\}|\b[A-Z][A-Z|@_.]*\b|\.\.\.)", text)
    return "".join(VALUES.get(word, "4") if at % 2 else word for at, word in enumerate(words))


def check_command(command: str) -> None:
    with contextlib.suppress(click.exceptions.Exit):  # --help
        parse(shlex.split(command)[1:])


COMMANDS = [(place, command) for place, text in (*HINTS.items(), *printed()) for command in commands(text)]


@pytest.mark.parametrize(("place", "command"), COMMANDS, ids=lambda value: value)
def test_each_command_in_a_hint_can_be_typed(place: str, command: str, capsys):
    check_command(command)


def test_commands_are_found():
    assert len({command for _, command in COMMANDS}) > 35
    assert commands("wait, or: nudge train --init RUN, then 'nudge runs' again") == [
        "nudge train --init 4",
        "nudge runs",
    ]
    with pytest.raises(click.UsageError):
        check_command("nudge train --nonsense 4")


OPTIONS = [(code, *found.groups()) for code, hint in HINTS.items() for found in OPTION.finditer(hint)]


@pytest.mark.parametrize(("code", "option", "word"), OPTIONS, ids=lambda value: str(value))
def test_each_option_in_a_hint_exists_and_takes_its_value(code: str, option: str, word: str | None):
    if option in OF_OTHERS:
        return
    found = [
        (command, parameter)
        for command in ALL.values()
        for parameter in command.params
        if option in (*parameter.opts, *parameter.secondary_opts)
    ]
    assert found or option == "--help"
    values = [parameter for _, parameter in found if not getattr(parameter, "is_flag", False)]
    if word and values and re.match(r"[A-Z{0-9]|(h100|none|auto|data|shard|hf|local|slurm|skypilot|chars)$", word):
        for parameter in values:
            try:
                parameter.type.convert(fill(word), parameter, None)
                break
            except click.UsageError:
                continue
        else:
            raise AssertionError(f"no command takes {option} {fill(word)}")


SETTINGS = [(code, found[1]) for code, hint in HINTS.items() for found in SETTING.finditer(hint)]


@pytest.mark.parametrize(("code", "setting"), SETTINGS, ids=lambda value: value)
def test_each_setting_in_a_hint_can_be_set(code: str, setting: str):
    configs.override(Config(), configs.parse_settings([fill(setting)]))


def test_settings_are_found():
    assert len(SETTINGS) > 12


def test_each_package_in_a_hint_is_one_of_ours():
    named = [(code, found[1].strip("\"'")) for code, hint in HINTS.items() for found in PACKAGE.finditer(hint)]
    assert len(named) >= 7
    for code, package in named:
        extra = re.fullmatch(r"\.\[(.+)\]", package)
        if extra and "{" not in extra[1]:
            assert extra[1] in EXTRAS, code
        elif not extra:
            assert any(line.startswith(package) for lines in EXTRAS.values() for line in lines), code


def test_nothing_is_installed_by_a_name_that_is_not_published():
    pages = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("src/nudge/**/*.py"),
        ROOT / "src/nudge/errors.toml",
    ]
    assert [page.name for page in pages if "nudge-lm[" in page.read_text(encoding="utf-8")] == []


def test_a_missing_library_is_in_the_extra_that_is_named():
    """{extra} in a hint is the value that the code gives: read it where the error is raised."""
    given = [keyword.value for _, call in raised() for keyword in call.keywords if keyword.arg == "extra"]
    assert len(given) >= 2
    assert {value.value for value in given if isinstance(value, ast.Constant)} <= EXTRAS.keys()
    assert all(isinstance(value, ast.Constant) for value in given)


def test_a_path_in_a_command_is_quoted_for_the_shell():
    error = errors.RunError("folder_taken", path=Path("my runs") / "it's")
    assert shlex.split(commands(error.hint)[0].partition(") ")[0])[2:] == ["my runs/it's"]


def test_a_setting_in_a_command_is_quoted_for_the_shell():
    with pytest.raises(errors.ConfigError) as refused:
        configs.override(Config(), {"model": {"ffn": "it's 4"}})
    assert shlex.split(refused.value.hint.partition(": ")[2])[-1] == "model.ffn=it's 4"
