"""`nudge import` and `nudge export`: models in the formats of other programs."""

import dataclasses
import json
from pathlib import Path

import click


@click.command("import")
@click.argument("source", metavar="SRC")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The new folder.")
@click.option("--json", "as_json", is_flag=True, help="Say what was read as one JSON object.")
def import_(source: str, out: Path, as_json: bool) -> None:
    """Read a GPT-2 in another program's format.

    SRC is a Hugging Face folder (config.json and model.safetensors), or OWNER/NAME of a model on their Hub. The new
    folder is a SOURCE for every other command: sample, eval, export, train --init.

    \b
    Example:
      nudge import ./my-gpt2 --out runs/my-gpt2
      nudge import openai-community/gpt2 --out runs/gpt2
    """
    from nudge.infer import exchange
    from nudge.model.sizes import parameter_counts

    imported = exchange.import_huggingface(source, out)
    model = imported.config.model
    n_params = parameter_counts(model).total
    if as_json:
        click.echo(json.dumps({"out": str(out), "parameters": n_params, **dataclasses.asdict(model)}))
    else:
        click.echo(f"{out}: {n_params:,} parameters, {model.vocab_size:,} tokens. Next: nudge sample {out}")


@click.command()
@click.argument("source", required=False)
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Choice(["hf", "ckpt"]),
    help="hf: a Hugging Face folder. ckpt: one file with everything.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The new folder.")
@click.option("--json", "as_json", is_flag=True, help="Say what was written as one JSON object.")
def export(source: str | None, target: str, out: Path, as_json: bool) -> None:
    """Write a model in another program's format.

    SOURCE is a run folder, a checkpoint or an imported folder; left out, the newest run under runs/.

    hf: the folder loads with transformers' GPT2LMHeadModel.from_pretrained, and with 'nudge import' without loss. ckpt:
    weights, optimizer state and step in one file, also of a run whose processes kept a part each; the folder is a
    SOURCE for every command here.

    \b
    Example:
      nudge export runs/first --to hf --out exports/first
      nudge export runs/sharded --to ckpt --out exports/one
    """
    from nudge.infer import engine, exchange

    if target == "ckpt":
        found = exchange.export_checkpoint(source, out)
        words = {"out": str(out), "format": target, "source": str(found.path), "step": found.step}
        click.echo(json.dumps(words) if as_json else f"{out}: {found.path} at step {found.step:,}, as one file")
        return
    model = engine.load(source, device="cpu")
    for note in model.notes:
        click.echo(note, err=True)
    exchange.export_huggingface(model, out)
    if as_json:
        click.echo(json.dumps({"out": str(out), "format": target, "source": str(model.path), "step": model.step}))
    else:
        click.echo(f"{out}: {model.path} at step {model.step:,}, for GPT2LMHeadModel.from_pretrained({str(out)!r})")
