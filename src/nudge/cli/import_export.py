"""`nudge import` and `nudge export`: models in the formats of other programs."""

import dataclasses
import shlex
from pathlib import Path

import click

from nudge.cli.prompts import FilePath
from nudge.cli.terminal import echo, echo_json
from nudge.convert.source import check_source
from nudge.errors import ConfigError
from nudge.runs.folder import find_source
from nudge.util import files

_NEXT = {  # how the other program loads what was exported
    "hf": "AutoModelForCausalLM.from_pretrained('{out}')",
    "nanogpt": "python sample.py --out_dir={out} --device=cpu",
    "gguf": "llama-completion -m {out}/*.gguf, or ollama create NAME -f {out}/Modelfile",
    "llmc": "train_gpt2 or train_gpt2cu",
}


@click.command("import")
@click.argument("source", type=FilePath(), metavar="SRC")
@click.option("--out", required=True, type=FilePath(path_type=Path), help="The new folder.")
@click.option(
    "--tokenizer",
    type=FilePath(),
    metavar="NAME|FILE",
    help="gpt2, cl100k, bytes, nudge's tokenizer.json, or nanoGPT's meta.pkl, if SRC has no tokenizer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def import_(source: str, out: Path, tokenizer: str | None, as_json: bool) -> None:
    """Read a GPT-2 in another program's format.

    SRC is a Hugging Face folder (config.json and model.safetensors), OWNER/NAME of a model on the Hugging Face Hub,
    nanoGPT's ckpt.pt, or llm.c's .bin (version 3 or 5). The new folder is a SOURCE for every other command: sample,
    eval, export, train --init. No code in SRC is executed.

    \b
    Example:
      nudge import ./my-gpt2 --out runs/my-gpt2
      nudge import openai-community/gpt2 --out runs/gpt2
      nudge import out/ckpt.pt --tokenizer data/shakespeare_char/meta.pkl --out runs/shakespeare
      nudge import log124M/model_00019560.bin --out runs/llmc
    """
    files.check_new_folder(out)
    check_source(source)
    from nudge.convert import import_export
    from nudge.model.sizes import parameter_counts

    imported = import_export.import_model(source, out, tokenizer=tokenizer)
    for note in imported.notes:
        echo(note, err=True)
    model = imported.config.model
    n_params = parameter_counts(model).total
    if as_json:
        echo_json({"out": str(out), "parameters": n_params, **dataclasses.asdict(model)})
    else:
        echo(f"{out}: {n_params:,} parameters, {model.vocab_size:,} tokens. Next: nudge sample {shlex.quote(str(out))}")


@click.command()
@click.argument("source", type=FilePath(), required=False)
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Choice(["hf", "nanogpt", "llmc", "gguf", "ckpt"]),
    help="The format. ckpt: nudge's own, in a single file.",
)
@click.option("--out", required=True, type=FilePath(path_type=Path), help="The new folder.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "q8_0"]),
    help="Number type of the weights: llmc has two, gguf three.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def export(source: str | None, target: str, out: Path, dtype: str | None, as_json: bool) -> None:
    """Write a model in another program's format.

    SOURCE is a run folder, a checkpoint or an imported folder. Without it, the newest run under runs/ is used.

    hf: a folder for transformers' AutoModelForCausalLM and AutoTokenizer. nanogpt: ckpt.pt for its sample.py and
    train.py --init_from=resume. llmc: model.bin (version 3), or model_bf16.bin (version 5) with --dtype bfloat16.
    'nudge import' reads all three without loss, except for the digits that bfloat16 drops. gguf: one file for
    llama.cpp, and a Modelfile for Ollama. ckpt: weights, optimizer state and step in one file, even if the processes
    of the run each kept a part; the folder is a SOURCE for every command.

    \b
    Example:
      nudge export runs/first --to hf --out exports/first
      nudge export runs/first --to llmc --dtype bfloat16 --out exports/llmc
      nudge export runs/first --to gguf --dtype q8_0 --out exports/gguf
      nudge export runs/sharded --to ckpt --out exports/one
    """
    from nudge.cli.prompts import load_model

    if target == "ckpt" and dtype is not None:
        raise ConfigError("dtype_for_ckpt", dtype=dtype)
    files.check_new_folder(out)
    find_source(source)
    from nudge.convert import import_export

    if target == "ckpt":
        found = import_export.export_checkpoint(source, out)
        values = {"out": str(out), "format": target, "source": str(found.path), "step": found.step}
        if as_json:
            echo_json(values)
        else:
            echo(f"{out}: {found.path} at step {found.step:,}, as one file")
        return
    model = load_model(source, device="cpu")
    for note in import_export.export_model(model, out, target, dtype=dtype):
        echo(note, err=True)
    if as_json:
        echo_json({"out": str(out), "format": target, "source": str(model.path), "step": model.step})
    else:
        echo(f"{out}: {model.path} at step {model.step:,}, for {_NEXT[target].format(out=out)}")
