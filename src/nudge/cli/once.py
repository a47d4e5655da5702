"""`nudge once`: one real update on one example, and what it changes."""

import math
from typing import TYPE_CHECKING, Any

import click

from nudge.cli.prompts import FilePath
from nudge.cli.terminal import echo_json

if TYPE_CHECKING:
    from nudge.cli.output import Table
    from nudge.infer.engine import LanguageModel
    from nudge.look.single_update import Nudge, Optimizer

N_PARAMETERS = 5  # in the table; --json has all


@click.command()
@click.argument("source", type=FilePath(), required=False)
@click.option("--prompt", default="", help="Text to continue; - reads it from standard input.")
@click.option("--ids", metavar="ID,ID,...", help="Token ids instead of a prompt, without anything added.")
@click.option("--target", metavar="TEXT|ID", required=True, help="The token that should come next.")
@click.option("--lr", type=float, help="Learning rate. [default: one that raises 3% to about 4%]")
@click.option(
    "--optimizer",
    type=click.Choice(["sgd", "adamw"]),
    default="sgd",
    help="Gradient descent, or AdamW's first step.",
)
@click.option("--control", multiple=True, metavar="TEXT", help="A prompt on which drift is measured; can be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def once(
    source: str | None,
    prompt: str,
    ids: str | None,
    target: str,
    lr: float | None,
    optimizer: "Optimizer",
    control: tuple[str, ...],
    as_json: bool,
) -> None:
    """Do one real update on one example, on a copy, and show what it changes.

    SOURCE is a run folder, a checkpoint or an imported folder. Without it, the newest run under runs/ is used. Nothing
    is written. A small learning rate does what the slope of the loss predicts; one that is far too high overshoots.

    \b
    Example:
      nudge once --prompt "import" --target " os"
      nudge once runs/first --prompt "def" --target 32 --lr 10
      nudge once --prompt "import" --target " os" --optimizer adamw --json
    """
    from nudge.cli.prompts import load_model, one_token, read_context

    model = load_model(source)
    from nudge.look.prediction import start_of_document
    from nudge.look.single_update import control_contexts, nudge_once

    token = one_token(model, target)
    context = read_context(model, prompt, ids) or start_of_document(model.network, model.tokenizer)
    controls = [tuple(model.prompt_ids(text)) for text in control] or control_contexts(model, context)
    nudge = nudge_once(model.network, context, token, lr, optimizer=optimizer, controls=controls)
    if as_json:
        echo_json(_as_json(model, nudge, context))
    else:
        _show(model, nudge, context)


def _as_json(model: "LanguageModel", nudge: "Nudge", context: tuple[int, ...]) -> dict[str, Any]:
    from nudge.data.tokenizer import shown_token

    def text(token: int) -> str:
        return shown_token(model.tokenizer, token)

    return {
        "source": str(model.path),
        "step": model.step,
        "context": list(context),
        "target": {"token": nudge.target, "text": text(nudge.target)},
        "optimizer": nudge.optimizer,
        "lr": nudge.lr,
        "probability": {"before": nudge.probability_before, "after": nudge.probability_after},
        "rank": {"before": nudge.rank_before, "after": nudge.rank_after},
        "loss": {"before": nudge.loss_before, "after": nudge.loss_after},
        "loss_change": {"predicted": nudge.predicted_loss_change, "actual": nudge.loss_change},
        "moved": [
            {"token": moved.token, "text": text(moved.token), "before": moved.before, "after": moved.after}
            for moved in nudge.moved
        ],
        "relative_change": nudge.relative_change,
        "total_relative_change": nudge.total_relative_change,
        "drift": [{"context": list(drift.context), "kl": drift.kl} for drift in nudge.drift],
    }


def _show(model: "LanguageModel", nudge: "Nudge", context: tuple[int, ...]) -> None:
    from nudge.cli.output import Text, make_console
    from nudge.cli.predict import percent
    from nudge.cli.prompts import format_context
    from nudge.data.tokenizer import shown_token

    def token(number: int) -> str:
        return shown_token(model.tokenizer, number)

    console = make_console()
    rule = "gradient descent" if nudge.optimizer == "sgd" else "AdamW's first step"
    console.print(Text.assemble(("One update", "bold"), f" on one example: {rule}, learning rate {nudge.lr:.3g}"))
    console.print(Text.assemble(("  after   ", "dim"), format_context(model, context)))
    console.print(Text.assemble(("  target  ", "dim"), (token(nudge.target), "bold"), (f"  id {nudge.target}", "dim")))
    console.print()
    rows = [
        ("probability", percent(nudge.probability_before), percent(nudge.probability_after)),
        ("rank", f"{nudge.rank_before:,}", f"{nudge.rank_after:,}"),
        ("loss", f"{nudge.loss_before:.4f}", f"{nudge.loss_after:.4f}"),
    ]
    console.print(_table(("", "before", "after"), rows))
    predicted, actual = nudge.predicted_loss_change, nudge.loss_change
    console.print(f"The slope predicts a change of the loss by {predicted:+.4g} nats; it is {actual:+.4g}.")
    if actual > 0:
        console.print("The step went past the valley: try a smaller learning rate.", style="bold red")
    elif abs(actual - predicted) > abs(predicted) / 2:
        console.print("The step is too long for the slope to predict: try a smaller learning rate.", style="red")
    console.print("\nWhat moved most", style="bold")
    rows = [(token(moved.token), percent(moved.before), percent(moved.after)) for moved in nudge.moved]
    console.print(_table(("token", "before", "after"), rows))
    console.print(Text.assemble(("\nHow far the weights moved", "bold"), "  |dW| / |W|"))
    console.print(_table(("parameter", ""), _largest_changes(nudge)))
    console.print(
        Text.assemble(("\nWhat it does elsewhere", "bold"), "  KL(before || after) on other prompts, in nats")
    )
    console.print(_table(("after", ""), [(format_context(model, d.context), f"{d.kl:.2g}") for d in nudge.drift]))
    console.print("\nThis was a copy: the model is as it was.", style="dim")


def _largest_changes(nudge: "Nudge") -> list[tuple[str, str]]:
    """Return the change of all parameters together, and the largest changes, without parameters that were zero."""
    finite = {name: change for name, change in nudge.relative_change.items() if math.isfinite(change)}
    largest = sorted(finite, key=finite.__getitem__, reverse=True)[:N_PARAMETERS]
    return [
        ("all together", f"{nudge.total_relative_change:.2g}"),
        *((name, f"{finite[name]:.2g}") for name in largest),
    ]


def _table(header: tuple[str, ...], rows: list[Any]) -> "Table":
    """Return a table with a left-aligned first column; other columns are right-aligned."""
    from nudge.cli.output import Table

    table = Table(box=None, padding=(0, 2), header_style="dim")
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", no_wrap=number > 0)
    for row in rows:
        table.add_row(*row)
    return table
