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
    from nudge.train.evaluation import evaluate, run_dataset, solved

    model = load(source)
    for note in model.notes:
        click.echo(note, err=True)
    result = evaluate(model, data or None, field=field)
    splits = {}
    if not data and (dataset := run_dataset(model)).manifest.records:
        splits = {records.name: solved(model.network, records) for records in (dataset.val, dataset.train)}
    if as_json:
        values = {**dataclasses.asdict(result), "perplexity": result.perplexity}
        if splits:
            values["solved"] = {name: dataclasses.asdict(split) for name, split in splits.items()}
        click.echo(json.dumps(values))
        return
    click.echo(f"loss           {result.loss:.4f} nats per token")
    click.echo(f"perplexity     {result.perplexity:,.2f}")
    click.echo(f"bits per byte  {result.bits_per_byte:.4f}")
    click.echo(f"tokens         {result.tokens:,}")
    for name, split in splits.items():
        examples = {"val": "held-out", "train": "training"}[name]
        click.echo(f"solved         {split.right:,} of {split.total:,} {examples} examples exactly")
