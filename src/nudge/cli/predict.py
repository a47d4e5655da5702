"""`nudge predict`: the probabilities of the next token."""

import math
from typing import TYPE_CHECKING, Any

import click

from nudge.cli.prompts import FilePath
from nudge.cli.terminal import echo_json
from nudge.util.terminal_text import bar

if TYPE_CHECKING:
    from nudge.infer.engine import LanguageModel
    from nudge.look.prediction import Prediction

BAR = 28  # cells of a full bar


@click.command()
@click.argument("source", type=FilePath(), required=False)
@click.option("--prompt", default="", help="Text to continue; - reads it from standard input.")
@click.option("--ids", metavar="ID,ID,...", help="Token ids instead of a prompt, without anything added.")
@click.option("--top", default=20, type=click.IntRange(min=1), help="Number of tokens to list, most likely first.")
@click.option(
    "--token", "texts", multiple=True, metavar="TEXT|ID", help="Also show this token and its rank; can be repeated."
)
@click.option("--temperature", default=1.0, help="0: always the most likely token; above 1: more random.")
@click.option("--top-k", type=int, help="Sample only from the K most likely tokens.")
@click.option("--top-p", type=float, help="Sample only from the most likely tokens with this total probability.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def predict(
    source: str | None,
    prompt: str,
    ids: str | None,
    top: int,
    texts: tuple[str, ...],
    as_json: bool,
    **sampling: Any,
) -> None:
    """Show what a model predicts: the next token's probabilities.

    SOURCE is a run folder, a checkpoint or an imported folder. Without it, the newest run under runs/ is used. Without
    a prompt, the first token of a document is predicted. Temperature, top-k and top-p change the probabilities that
    'nudge sample' draws with, never those of the model.

    \b
    Example:
      nudge predict --prompt "def"
      nudge predict runs/first --prompt "import" --token " os" --top 5
      nudge predict --ids 91,860,287 --temperature 0.8 --top-k 40 --json
    """
    from nudge.cli.prompts import check_sampling, load_model, one_token, read_context

    check_sampling(**sampling)
    model = load_model(source)
    from nudge.look import prediction as predictions

    tokens = [one_token(model, text) for text in texts]
    predictions.check_tokens(tokens, model.network.config.vocab_size)
    context = read_context(model, prompt, ids)
    prediction = predictions.predict(model.network, model.tokenizer, context, **sampling)
    if as_json:
        echo_json(_as_json(model, prediction, top, tokens))
    else:
        drawn = sampling != {"temperature": 1, "top_k": None, "top_p": None}
        _show(model, prediction, top, tokens, drawn=drawn)


def _as_json(model: "LanguageModel", prediction: "Prediction", top: int, tokens: list[int]) -> dict[str, Any]:
    listed = [candidate.token for candidate in prediction.top(top)]
    V = len(prediction.probabilities)
    return {
        "source": str(model.path),
        "step": model.step,
        "context": list(prediction.context),
        "vocab_size": V,
        "top": [_row(model, prediction, token) for token in listed],
        "rest": {"tokens": V - len(listed), "probability": prediction.rest(top)},
        "entropy": prediction.entropy,
        "tokens": [_row(model, prediction, token) for token in tokens],
    }


def _row(model: "LanguageModel", prediction: "Prediction", token: int) -> dict[str, Any]:
    from nudge.data.tokenizer import shown_token

    return {
        "token": token,
        "text": shown_token(model.tokenizer, token),
        "rank": prediction.rank(token),
        "probability": prediction.probability(token),
        "drawn_with": prediction.sampled[token].item(),
    }


def _show(model: "LanguageModel", prediction: "Prediction", top: int, tokens: list[int], *, drawn: bool) -> None:
    from nudge.cli.output import Table, Text, make_console
    from nudge.cli.prompts import format_context

    console = make_console()
    console.print(Text.assemble(("after  ", "dim"), format_context(model, prediction.context)))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("rank", justify="right")
    table.add_column("token", max_width=32, no_wrap=True)
    table.add_column("id", justify="right", style="dim")
    table.add_column("probability", justify="right")
    table.add_column("drawn with" if drawn else "", justify="right")
    table.add_column("")
    listed = [candidate.token for candidate in prediction.top(top)]
    largest = prediction.probability(listed[0])
    others = [token for token in tokens if token not in listed]
    for token in (*listed, *others):
        if others and token == others[0]:
            table.add_section()
        row = _row(model, prediction, token)
        table.add_row(
            f"{row['rank']:,}",
            Text(row["text"], style="bold reverse" if token in tokens else "bold"),
            str(token),
            percent(row["probability"]),
            (percent(row["drawn_with"]) if row["drawn_with"] else "never") if drawn else "",
            Text(bar(row["probability"] / largest, BAR), style="dark_orange"),
        )
    console.print(table)
    n_rest = len(prediction.probabilities) - len(listed)
    console.print(f"\nthe rest of the vocabulary: {n_rest:,} tokens, {percent(prediction.rest(top))}")
    n_even = math.exp(prediction.entropy)
    even = f"{n_even:,.0f}" if n_even >= 9.95 else f"{n_even:.1f}"
    console.print(f"entropy {prediction.entropy:.3f} nats: like choosing evenly among {even} tokens")


def percent(probability: float) -> str:
    """Format a probability: 12.34%, or 3e-05% for a value that would be 0.00%."""
    if probability == 0 or probability >= 0.00005:
        return f"{probability:.2%}"
    return f"{100 * probability:.0e}%"
