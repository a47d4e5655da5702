"""`nudge studio`: the runs of a folder as web pages."""

from pathlib import Path

import click

from nudge.errors import MachineError, RunError


@click.command()
@click.argument("runs", type=click.Path(path_type=Path), default=Path("runs"), metavar="[RUNS_DIR]")
@click.option("--port", type=click.IntRange(1, 65535), default=8300, help="Of the address.")
@click.option("--host", default="127.0.0.1", help="The address to listen on; one that others reach needs a token.")
@click.option("--token", metavar="SECRET", help="What a browser must show: http://HOST:PORT/?token=SECRET")
def studio(runs: Path, port: int, host: str, token: str | None) -> None:
    """Train, look inside, turn knobs and write, in a browser.

    RUNS_DIR holds the runs [default: runs]; new ones are made there too. Stop with Control-C: runs that were started
    from the page go on.

    \b
    Example:
      nudge studio
      nudge studio experiments --port 9000
    """
    if runs.exists() and not runs.is_dir():
        raise RunError(f"{runs} is a file", "give the folder that holds the runs")
    try:
        from nudge.studio.server import Address, serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("nicegui", "fastapi", "uvicorn"):
            raise
        raise MachineError("the studio needs NiceGUI, which is not here", "pip install 'nudge-lm[studio]'") from error
    address = Address(host=host, port=port, token=token)
    click.echo(f"nudge studio: {address.url}  (Control-C stops it)")
    serve(runs, address)
