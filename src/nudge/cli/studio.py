"""`nudge studio`: the runs in a folder as web pages."""

from pathlib import Path

import click

from nudge.cli.prompts import FilePath
from nudge.cli.terminal import echo
from nudge.errors import ConfigError, MachineError


@click.command()
@click.argument("runs", type=FilePath(file_okay=False, path_type=Path), default=Path("runs"), metavar="[RUNS_DIR]")
@click.option("--port", type=click.IntRange(1, 65535), default=8300, help="The port to listen on.")
@click.option("--host", default="127.0.0.1", help="The address to listen on.")
@click.option("--name", "names", multiple=True, metavar="NAME", help="A name that a proxy has for it; can be repeated.")
@click.option(
    "--token-file",
    type=FilePath(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A token for several people, in a file that only you can read; or set NUDGE_STUDIO_TOKEN.",
)
@click.option("--no-token", is_flag=True, help="Let in every user of this machine.")
def studio(runs: Path, port: int, host: str, names: tuple[str, ...], token_file: Path | None, no_token: bool) -> None:
    """Train, look inside, turn knobs and write, in a browser.

    RUNS_DIR holds the runs, including new ones [default: runs]. The address that is printed opens the studio in one
    browser; then the next one is printed. Control-C stops the studio; runs that were started in it continue.

    \b
    Example:
      nudge studio
      nudge studio experiments --port 9000
    """
    try:
        from nudge.studio.keys import VARIABLE, read_token
        from nudge.studio.server import Address, serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("nicegui", "fastapi", "uvicorn"):
            raise
        raise MachineError("studio_not_installed") from error
    token = read_token(token_file)
    if no_token and token is not None:
        raise ConfigError("exclusive_options", options=f"--no-token, --token-file, {VARIABLE}")
    serve(runs, Address(host=host, port=port, names=names), token=token, is_open=no_token, say=echo)
