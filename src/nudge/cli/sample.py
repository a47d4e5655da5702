"""`nudge sample`: write text with a trained model."""

from typing import TYPE_CHECKING, Any

import click

from nudge.cli.prompts import FilePath, check_sampling, clean, load_model, read_prompt
from nudge.cli.terminal import echo, echo_json, write
from nudge.errors import CheckpointError
from nudge.fast import DTYPES

if TYPE_CHECKING:
    from nudge.fast.weights import DType
    from nudge.infer.engine import LanguageModel
    from nudge.infer.streams import TextStream


@click.command()
@click.argument("source", type=FilePath(), required=False)
@click.option("--prompt", default="", help="Text to continue; - reads it from standard input.")
@click.option("--max-tokens", default=200, help="The most tokens to write.")
@click.option("--temperature", default=0.8, help="0: always the most likely token; above 1: more random.")
@click.option("--top-k", type=int, help="Sample only from the K most likely tokens.")
@click.option("--top-p", type=float, help="Sample only from the most likely tokens with this total probability.")
@click.option("--seed", default=0, help="The same seed gives the same text.")
@click.option("--num", default=1, type=click.IntRange(min=1), help="Number of samples, with seeds SEED, SEED+1, ...")
@click.option("--stop", multiple=True, metavar="TEXT", help="Stop before this text; can be repeated.")
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    help="Number type of the weights. [default: bfloat16 for a large network where that is faster, else float32]",
)
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON per sample.")
def sample(
    source: str | None,
    prompt: str,
    seed: int,
    num: int,
    dtype: "DType | None",
    as_json: bool,
    **options: Any,
) -> None:
    """Write text with a trained model.

    SOURCE is a run folder, a checkpoint or an imported folder. Without it, the newest run under runs/ is used. On a
    terminal, control and invisible characters of the text are shown as signs, such as ␛; a file gets them as they are.

    \b
    Example:
      nudge sample --prompt "def" --max-tokens 60
      nudge sample runs/first --prompt "import" --temperature 0 --stop "def "
      echo "class " | nudge sample --prompt - --num 3
    """
    check_sampling(**{name: value for name, value in options.items() if name != "stop"})
    model = load_model(source, dtype=dtype)
    prompt = read_prompt(prompt)
    slid = False
    for number in range(num):
        if number and not as_json:
            echo("---")
        stream = model.stream(prompt, seed=seed + number, **options)
        stream.tokens.strict = True
        if as_json:
            _write_json(model, stream, prompt, seed + number)
        else:
            _write_text(stream, prompt)
        slid = slid or stream.slid
    if slid:
        echo(
            f"the context of {model.network.config.block_size:,} tokens was full: the oldest were forgotten on the way",
            err=True,
        )


def _write_text(stream: "TextStream", prompt: str) -> None:
    """Write the prompt and its continuation, each piece at once. On a terminal the prompt is bold."""
    write(prompt.encode("utf-8", "surrogateescape"), bold=True)
    try:
        for piece in stream:
            write(piece.encode())
    except CheckpointError:  # its message goes on a line of its own
        write(b"\n")
        raise
    write(b"\n")


def _write_json(model: "LanguageModel", stream: "TextStream", prompt: str, seed: int) -> None:
    line = {
        "source": str(model.path),
        "step": model.step,
        "verified": model.verified,
        "seed": seed,
        "prompt": clean(prompt),
        "text": "".join(stream),
        "tokens": stream.n_tokens,
        "ended": stream.ended,
        "slid": stream.slid,
    }
    echo_json(line)
