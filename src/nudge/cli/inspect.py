"""`nudge inspect`: the parameters of a checkpoint as a tree, and their values."""

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from nudge.cli.prompts import FilePath
from nudge.cli.terminal import echo_json
from nudge.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from nudge.cli.inspectview import Nearest
    from nudge.data.tokenizer import Tokenizer
    from nudge.look.changes import Difference
    from nudge.look.inspection import Weights
    from nudge.look.values import Histogram

BINS = 51  # of a histogram: columns on the terminal


@click.command()
@click.argument("source", type=FilePath(), required=False)
@click.option("--tensor", "name", metavar="NAME", help="Show statistics and a histogram of one parameter.")
@click.option("--neighbours", "text", metavar="TEXT", help="Show the tokens nearest to those of TEXT in wte.")
@click.option("--against", type=FilePath(), metavar="OTHER", help="Show how far each part moved from OTHER to SOURCE.")
@click.option("--all", "every", is_flag=True, help="Expand every block, not only the first.")
@click.option("--verify/--no-verify", default=True, help="Check the SHA-256, which reads the whole file.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def inspect(
    source: str | None,
    name: str | None,
    text: str | None,
    against: str | None,
    every: bool,
    verify: bool,
    as_json: bool,
) -> None:
    """Show what is inside a checkpoint: its parameters as a tree.

    SOURCE is a run folder, a checkpoint, an imported folder, or a model.safetensors of a GPT-2 (or its folder). Without
    it, the newest run under runs/ is used. Besides its parameters, a checkpoint holds what training needs to continue.

    \b
    Example:
      nudge inspect runs/first
      nudge inspect runs/first --tensor wte.weight
      nudge inspect runs/first --neighbours "def"
      nudge inspect runs/first --against runs/first/checkpoints/step_00000000.pt
    """
    from nudge.runs.folder import find_source

    for path in (source, against) if against is not None else (source,):
        find_source(path)
    from nudge.cli import inspectview as view
    from nudge.cli.output import make_console
    from nudge.look.inspection import weights

    found = weights(source, verify=verify)
    histogram = found.histogram(name, BINS) if name is not None else None
    nearest = _nearest(found, text) if text is not None else None
    moved = _changes(weights(against, verify=verify), found) if against is not None else None
    if as_json:
        echo_json(_describe(found, histogram, nearest, moved), indent=2)
        return
    console = make_console()
    view.show_head(console, found)
    if histogram is not None:
        view.show_histogram(console, found, histogram)
    if nearest is not None:
        view.show_nearest(console, nearest)
    if moved is not None:
        view.show_difference(console, against or "", moved)
    if histogram is None and nearest is None and moved is None:
        view.show_tree(console, found, every)
        view.show_beside(console, found)


def _nearest(found: "Weights", text: str) -> "Nearest":
    """Return the nearest neighbors in wte of each token of the text."""
    from nudge.look.values import neighbours

    tokenizer, table = found.tokenizer(), found.tensor("wte.weight")
    tokens = tokenizer.encode(text)
    if not tokens:
        raise ConfigError("no_token_in_text")
    return [
        (
            token,
            _text(tokenizer, token),
            tuple((near, _text(tokenizer, near.token)) for near in neighbours(table, token)),
        )
        for token in dict.fromkeys(tokens)
    ]


def _changes(before: "Weights", after: "Weights") -> "Difference":
    """Compare two checkpoints. Raises: CheckpointError if no parameter has the same name and shape in both."""
    from nudge.look.changes import difference

    found = difference(before, after)
    if not found.changes:
        old, new = before.parameters[0].name, after.parameters[0].name
        if found.other_shape:
            name, *shapes = found.other_shape[0]
            old, new = (f"{name} {list(shape)}" for shape in shapes)
        raise CheckpointError("nothing_in_common", old=old, new=new)
    return found


def _text(tokenizer: "Tokenizer", token: int) -> str:
    """Return the text of a token, or its bytes if they are part of a character, or its id if it has no text."""
    text = tokenizer.token_bytes(token) if token < tokenizer.vocab_size else None
    if text is None:
        return f"<{token}>"
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"<{byte:02x}>" for byte in text)


def _describe(
    found: "Weights", histogram: "Histogram | None", nearest: "Nearest | None", moved: "Difference | None"
) -> dict[str, Any]:
    """Return all findings as JSON values."""
    described: dict[str, Any] = {
        "source": str(found.path),
        "format": found.format,
        "n_bytes": found.n_bytes,
        "checksum": found.checksum,
        "verified": found.verified,
        "step": found.step,
        "tokens_seen": found.tokens_seen,
        "total": found.total,
        "groups": found.groups,
        "parameters": [{**dataclasses.asdict(p), "role": p.role} for p in found.parameters],
        "stored": [{**dataclasses.asdict(stored), "role": stored.role} for stored in found.stored],
        "config": found.config and dataclasses.asdict(found.config),
        "notes": found.notes,
    }
    if histogram is not None:
        described["tensor"] = dataclasses.asdict(histogram)
    if nearest is not None:
        described["neighbours"] = [
            {
                "token": token,
                "text": text,
                "nearest": [{"token": near.token, "text": its, "cosine": near.cosine} for near, its in found_near],
            }
            for token, text, found_near in nearest
        ]
    if moved is not None:
        described["difference"] = dataclasses.asdict(moved)
    return described
