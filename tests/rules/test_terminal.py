"""Whatever is printed passes the two modules that show what a terminal would obey; a path holds no such thing."""

import ast
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.rules.test_cli_help import ALL

from nudge import cli
from nudge.cli.prompts import FilePath

PACKAGE = Path(__file__).parents[2] / "src" / "nudge"
BOUNDARY = {"cli/terminal.py", "cli/output.py"}
PIPES = {"estimate/forecast.py", "bench/worker.py"}  # started by another process of nudge, which reads what they print
NO_PRINTING = {"flush", "isatty"}
FORBIDDEN = {  # what prints, or makes text that is not made readable
    "click": {"echo", "secho", "style", "echo_via_pager"},
    "rich.console": {"Console"},
    "rich.text": {"Text"},
    "rich.table": {"Table"},
    "rich.live": {"Live"},
    "rich.markup": {"render", "escape"},
    "rich": {"print", "get_console", "print_json"},
}


def outside(path: Path) -> Iterator[str]:
    """Yield each place of a module that prints without passing the boundary."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    harmless = {id(node.value) for node in attributes if node.attr in NO_PRINTING}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="print")):
                found = "print"
            case ast.Attribute(
                value=ast.Name(id="sys"), attr="stdout" | "stderr" | "__stdout__" | "__stderr__" as found
            ):
                if id(node) in harmless:
                    continue
            case ast.Attribute(value=ast.Name(id=module), attr=name) if name in FORBIDDEN.get(module, ()):
                found = f"{module}.{name}"
            case ast.ImportFrom(module=str(module), names=names) if {n.name for n in names} & FORBIDDEN.get(
                module, set()
            ):
                found = f"from {module}"
            case ast.Attribute(
                value=ast.Name(id="traceback"), attr="print_exc" | "print_exception" | "print_tb" as found
            ):
                pass
            case _:
                continue
        yield f"{path.relative_to(PACKAGE)}:{node.lineno} {found}"


def test_only_the_boundary_prints():
    modules = {str(path.relative_to(PACKAGE)): path for path in PACKAGE.rglob("*.py")}
    assert modules.keys() > BOUNDARY | PIPES
    assert not [place for name in modules.keys() - BOUNDARY - PIPES for place in outside(modules[name])]
    assert list(outside(modules["cli/terminal.py"]))  # the rule sees what it looks for


PATHS = [
    (command, parameter)
    for command, found in ALL.items()
    for parameter in found.params
    if isinstance(parameter.type, click.Path)
]
WORDS = {"source", "src", "data", "more_data", "files", "folder", "run", "runs", "out", "tokenizer", "spec", "init"}
WORDS |= {"config_file", "file", "font", "what", "against", "plot", "nanogpt", "llmc"}


def test_each_path_is_of_the_kind_without_control_characters():
    assert all(isinstance(parameter.type, FilePath) for _, parameter in PATHS)
    named = {(command, p.name) for command, found in ALL.items() for p in found.params if p.name in WORDS}
    paths = {(command, parameter.name) for command, parameter in PATHS}
    assert named - paths == set()


@pytest.mark.parametrize("character", ["\0", "\n", "\x1b"], ids=repr)
@pytest.mark.parametrize(("command", "parameter"), PATHS, ids=lambda value: getattr(value, "name", value))
def test_a_control_character_in_a_path_is_one_line(
    command: str, parameter: click.Parameter, character: str, capsys: pytest.CaptureFixture[str]
):
    given = [parameter.opts[0]] if isinstance(parameter, click.Option) else ["--"]
    before = [] if isinstance(parameter, click.Option) else arguments_before(command, parameter)
    with pytest.raises(SystemExit) as ended:
        cli.main([*command.split(), *given, *before, f"a{character}b"])
    said = capsys.readouterr()
    assert ended.value.code == 2
    message, hint = said.err.splitlines()
    assert message.startswith("error: Invalid value for ")
    assert repr(f"a{character}b") in message
    assert hint == f" hint: see 'nudge {command} --help'"
    assert not said.out


def test_a_path_that_is_not_text_is_one_line(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "--data", "caf\udce9.txt"])
    message, hint = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert message.startswith(r"error: Invalid value for '--data': 'caf\udce9.txt' is not UTF-8")
    assert hint == " hint: see 'nudge train --help'"


def arguments_before(command: str, parameter: click.Parameter) -> list[str]:
    """A word for each argument before this one; none for an argument that takes any number of words."""
    arguments = [p for p in ALL[command].params if isinstance(p, click.Argument)]
    return ["x" for other in arguments[: arguments.index(parameter)] if other.nargs == 1]
