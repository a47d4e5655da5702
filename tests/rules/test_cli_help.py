"""Every command explains itself, and fails the same way."""

import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import click.testing
import pytest

import nudge
from nudge import cli
from nudge.errors import ConfigError
from nudge.recipes import RECIPES

NAMES = list(cli.COMMANDS)


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its words, also those of groups."""
    for name in NAMES:
        command = cli.load(name)
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", command.commands[inner]) for inner in command.commands)


ALL = dict(commands())


@pytest.mark.parametrize("name", NAMES)
def test_first_line_is_the_one_in_the_table(name: str):
    help_text = ALL[name].help or ""
    assert help_text.splitlines()[0] == cli.COMMANDS[name][1]


@pytest.mark.parametrize("name", ALL)
def test_help_has_an_example(name: str):
    result = click.testing.CliRunner().invoke(cli.cli, [*name.split(), "--help"], prog_name="nudge")
    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"nudge {name.split()[0]}" in result.output.partition("Example")[2]


def test_the_help_names_every_recipe_that_can_be_trained():
    (option,) = [each for each in ALL["train"].params if each.name == "recipe"]
    assert option.help == ", ".join(name for name in RECIPES if name != "gpt3") + "."  # gpt3 can only be planned


def help_at(width: int, name: str) -> str:
    """The help of a command in a terminal of that width."""
    runner = click.testing.CliRunner()
    return runner.invoke(cli.cli, [*name.split(), "--help"], prog_name="nudge", terminal_width=width - 2).output


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("name", ["", *ALL])
def test_help_fits_the_terminal_and_cuts_no_word(name: str, width: int):
    narrow = help_at(width, name)
    assert max(map(len, narrow.splitlines())) <= width
    joined = narrow.replace(" \\\n", " ")  # a command that goes on in the next line
    assert joined.split() == help_at(1000, name).replace(" \\\n", " ").split()


def test_an_example_that_is_wrapped_can_be_pasted():
    narrow = help_at(60, "launch").replace(" \\\n", " ")
    typed = [shlex.split(line) for line in narrow.splitlines() if line.startswith("    nudge launch")]
    written = (ALL["launch"].help or "").splitlines()
    wide = [shlex.split(line) for line in written if line.strip().startswith("nudge launch -")]
    assert typed == wide
    assert len(typed) > 2


@pytest.mark.parametrize("name", ALL)
def test_every_option_says_what_it_does(name: str):
    silent = [option.name for option in ALL[name].params if isinstance(option, click.Option) and not option.help]
    assert not silent


def test_every_command_is_listed_as_it_is_called():
    assert {name: command.name for name, command in ALL.items()} == {name: name.split()[-1] for name in ALL}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["train", "--stepz", "3"], "--steps"),
        (["data", "prepair"], "Did you mean 'prepare'?"),
        (["completion", "basch"], "is not one of"),
        (["--nonsense"], "No such option"),
    ],
)
def test_a_mistyped_word_is_one_line_and_a_hint(args: list[str], expected: str):
    result = subprocess.run([sys.executable, "-m", "nudge", *args], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    message, hint = result.stderr.splitlines()
    assert message.startswith("error: ")
    assert expected in message
    assert hint.startswith(" hint: see 'nudge")
    assert not result.stdout


def run(*args: str) -> int:
    """The exit code."""
    with pytest.raises(SystemExit) as ended:
        cli.main(args)
    return int(ended.value.code or 0)


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    @click.command()
    def broken() -> None:
        raise error

    monkeypatch.setattr(cli, "load", lambda name: broken)
    return run("runs")


def test_an_expected_error_is_a_message_and_a_hint(monkeypatch, capsys):
    error = ConfigError("unknown_gpu", name="h10", closest="did you mean 'h100'?")
    assert raising(monkeypatch, error) == 2
    assert capsys.readouterr().err == f"error: {error.message}\n hint: did you mean 'h100'?\n"


def test_control_c_is_quiet(monkeypatch, capsys):
    assert raising(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "\n"  # ends the line that shows ^C


@pytest.mark.parametrize("error", [ZeroDivisionError(), EOFError()])
def test_a_bug_is_not_hidden(monkeypatch, error):
    with pytest.raises(type(error)):
        raising(monkeypatch, error)


def test_a_reader_that_leaves_is_no_error():
    command = f"{shlex.quote(sys.executable)} -m nudge --help | true"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"nudge {nudge.__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str, capsys):
    assert run("completion", shell) == 0
    assert "_NUDGE_COMPLETE" in capsys.readouterr().out
