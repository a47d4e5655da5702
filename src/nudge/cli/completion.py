"""`nudge completion`: a script that completes commands and options in a shell."""

import click
from click.shell_completion import get_completion_class

from nudge.cli.terminal import write

# A value follows at once on what ends in "=": click's scripts would type a blank. Fish types none by itself.
NO_BLANK = {
    "bash": ("    return 0\n", "    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace\n    return 0\n"),
    "zsh": (
        "compadd -U",
        """local -a no_blank; [[ $completions[1] == *= ]] && no_blank=(-S '')
        compadd "${no_blank[@]}" -U""",
    ),
}


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands in your shell.

    \b
    Example:
      nudge completion bash >> ~/.bashrc
      nudge completion zsh >> ~/.zshrc
      nudge completion fish > ~/.config/fish/completions/nudge.fish
    """
    complete = get_completion_class(shell)
    assert complete is not None, "click knows each of the choices"
    script = (
        complete(ctx.find_root().command, {}, "nudge", "_NUDGE_COMPLETE")
        .source()
        .replace(*NO_BLANK.get(shell, ("", "")))
    )
    write(f"{script}\n".encode())
