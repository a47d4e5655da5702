"""`nudge eval`: how well a model predicts text that it was not trained on."""

import dataclasses
import json

import click


@click.command("eval")
@click.argument("source", required=False)
@click.option("--data", multiple=True, metavar="PATH", help="Other text. [default: the run's validation split]")
@click.option("--field", default="text", help="The field of .jsonl lines that holds the text.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def eval(source: str | None, data: tuple[str, ...], field: str, as_json: bool) -> None:
    """Measure the loss on text that was not trained on.

    SOURCE is a run folder, a checkpoint or an imported folder; left out, the newest run under runs/.

    \b
    Example:
      nudge eval
      nudge eval runs/tiny --data other.py
    """
    from nudge.infer.engine import load
    from nudge.train.evaluation import evaluate

    model = load(source)
    for note in model.notes:
        click.echo(note, err=True)
    result = evaluate(model, data or None, field=field)
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(result), "perplexity": result.perplexity}))
        return
    click.echo(f"loss           {result.loss:.4f} nats per token")
    click.echo(f"perplexity     {result.perplexity:,.2f}")
    click.echo(f"bits per byte  {result.bits_per_byte:.4f}")
    click.echo(f"tokens         {result.tokens:,}")
