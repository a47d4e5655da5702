"""`nudge studio`: the runs in a folder as web pages."""

from pathlib import Path

import click

from nudge.errors import MachineError


@click.command()
@click.argument("runs", type=click.Path(file_okay=False, path_type=Path), default=Path("runs"), metavar="[RUNS_DIR]")
@click.option("--port", type=click.IntRange(1, 65535), default=8300, help="The port to listen on.")
@click.option("--host", default="127.0.0.1", help="The address to listen on; other machines' access needs a token.")
@click.option("--token", metavar="SECRET", help="Required from browsers: http://HOST:PORT/?token=SECRET")
def studio(runs: Path, port: int, host: str, token: str | None) -> None:
    """Train, look inside, turn knobs and write, in a browser.

    RUNS_DIR holds the runs, including new ones [default: runs]. Control-C stops the studio; runs that were started in
    it continue.

    \b
    Example:
      nudge studio
      nudge studio experiments --port 9000
    """
    try:
        from nudge.studio.server import Address, serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("nicegui", "fastapi", "uvicorn"):
            raise
        raise MachineError("studio_not_installed") from error
    address = Address(host=host, port=port, token=token)
    click.echo(f"nudge studio: {address.url}  (Control-C stops it)")
    serve(runs, address)
