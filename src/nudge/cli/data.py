"""`nudge data`: turn text into tokens on disk, and show what a folder of tokens holds."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nudge.cli.prompts import FilePath, note_hidden_names, system_language
from nudge.cli.terminal import echo, echo_json
from nudge.config import DataConfig

if TYPE_CHECKING:
    from nudge.data.manifest import Records, SplitManifest
    from nudge.data.shards import Dataset


@click.group()
def data() -> None:
    """Turn text into tokens, and show what a folder of tokens holds.

    \b
    Example:
      nudge data list
      nudge data prepare books/ --tokenizer gpt2 --out tokens/books
      nudge data info tokens/books
    """


@data.command()
@click.argument("src", type=FilePath(), nargs=-1)
@click.option(
    "--tokenizer",
    type=FilePath(),
    metavar="NAME|FILE",
    default=DataConfig().tokenizer,
    help="bytes, chars, gpt2, cl100k, bpe-N (learned from this text), or a file.",
)
@click.option(
    "--out",
    type=FilePath(file_okay=False, path_type=Path),
    help="The folder for the tokens. [default: one in the cache; its path is printed]",
)
@click.option("--field", default=DataConfig().field, help="The field or column that holds the text (.jsonl, .parquet).")
@click.option(
    "--hub-bytes",
    type=int,
    default=DataConfig().hub_bytes,
    metavar="N",
    help="The most text to read from each hf: source.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prepare(src: tuple[str, ...], tokenizer: str, out: Path | None, field: str, hub_bytes: int, as_json: bool) -> None:
    """Turn text into tokens, split into training and validation.

    SRC is files, folders and globs of .txt, .md, .py, .jsonl (each also as .gz or .zst) and .parquet, a name of 'nudge
    data list', or hf:OWNER/NAME on the Hugging Face Hub. Without it, the text is Python's standard library. After an
    interruption the same command continues where it stopped. Token files of nanoGPT and llm.c are checked and used in
    place, not copied.

    \b
    Example:
      nudge data prepare books/ --tokenizer gpt2 --out tokens/books
      nudge data prepare "reviews/*.jsonl.gz" --field review --tokenizer bpe-24000 --out tokens/reviews
      nudge data prepare hf:HuggingFaceFW/fineweb-edu:sample-10BT --tokenizer gpt2 --hub-bytes 2000000000
    """
    from nudge.cli.progress import prepare_with_bar
    from nudge.data import prepare as preparation

    note_hidden_names(src)
    config = DataConfig(paths=src, field=field, hub_bytes=hub_bytes, tokenizer=tokenizer)
    _show(prepare_with_bar(preparation.prepare(config, out=out)), as_json)


@data.command()
@click.argument("folder", metavar="DIR", type=FilePath(path_type=Path))
@click.option("--verify", is_flag=True, help="Read every byte and compare its SHA-256.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(folder: Path, verify: bool, as_json: bool) -> None:
    """Show what a folder of tokens of nudge, nanoGPT or llm.c holds.

    \b
    Example:
      nudge data info tokens/books
      nudge data info tokens/books --verify --json
      nudge data info nanoGPT/data/openwebtext
    """
    from nudge.cli.progress import prepare_with_bar
    from nudge.data import prepare as preparation
    from nudge.data.foreign import token_files
    from nudge.data.shards import open_dataset

    if token_files.find([str(folder)]):
        dataset = prepare_with_bar(preparation.prepare(DataConfig(paths=(str(folder),))))
    else:
        dataset = open_dataset(folder)
    if verify:
        dataset.verify()
    _show(dataset, as_json, "every byte is as it was written" if verify else "")


@data.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def list_(as_json: bool) -> None:
    """List well-known free texts, by the names that --data takes.

    A text is downloaded when it is first used; a file or folder of the same name is read instead. Of a data set of the
    Hugging Face Hub, only the first documents are read, up to data.hub_bytes. The license says what you may do with it.

    \b
    Example:
      nudge data list
      nudge train --data shakespeare --tokenizer chars
    """
    from nudge.data import named_texts
    from nudge.data.foreign import named

    texts = [
        {
            "name": name,
            "title": text.title["en"],
            "language": text.language,
            "n_bytes": text.n_bytes or DataConfig().hub_bytes,
            "license": text.license,
            "source": text.hub or text.url,
            "here": named.is_here(name, text),
        }
        for name, text in named_texts.table(system_language()).items()
    ]
    if as_json:
        echo_json(texts, indent=2)
    else:
        _show_texts(texts)


def _show_texts(texts: list[dict[str, Any]]) -> None:
    from nudge.cli.output import make_console, make_fitting_table
    from nudge.util import formatting

    console = make_console(wide=True)
    rows = [
        (
            text["name"],
            text["language"],
            ("up to " if text["source"].startswith("hf:") else "") + formatting.size(text["n_bytes"]),
            text["license"],
            "yes" if text["here"] else "no",
            text["title"],
        )
        for text in texts
    ]
    columns = ("name", "lang", ">size", "license", "here", "text")
    console.print(make_fitting_table(console, columns, rows, wraps="text", expendable=("text",)))


def _show(dataset: "Dataset", as_json: bool, note: str = "") -> None:
    manifest = dataset.manifest
    if as_json:
        value = {"dir": str(dataset.dir), "fingerprint": dataset.fingerprint, **dataclasses.asdict(manifest)}
        echo_json(value, indent=2)
        return
    source = manifest.source
    paths = ", ".join(source.paths) or f"the standard library of Python {manifest.versions['python']}"
    size = (
        f"{source.n_files:,} files, {source.n_bytes / 1e6:,.1f} MB" if source.n_files else f"{source.n_bytes:,} bytes"
    )
    vocabulary = f"{manifest.tokenizer}, {manifest.vocab_size:,} symbols, SHA-256 {manifest.tokenizer_sha256[:12]}"
    lines = [
        ("folder", str(dataset.dir)),
        ("text", f"{paths} ({size})"),
        ("tokenizer", vocabulary),
        ("training", _counts(manifest.train, manifest.records)),
        ("validation", _counts(manifest.val, manifest.records)),
        ("fingerprint", dataset.fingerprint[:12]),
        *(("note", line) for line in manifest.notes),
    ]
    if note:
        lines.append(("verified", note))
    for name, words in lines:
        echo(f"{name:12} {words}")


def _counts(split: "SplitManifest", records: "Records | None") -> str:
    if records:
        n, length = split.n_tokens // records.n_tokens, records.n_tokens
        return f"{split.n_tokens:,} tokens: {n:,} examples of {length}, the first {records.n_given} of which are given"
    documents = f" in {split.n_documents:,} documents" if split.n_documents else ""
    return (
        f"{split.n_tokens:,} tokens{documents}, {split.text_bytes / 1e6:,.2f} MB of text, "
        f"{split.text_bytes / max(split.text_tokens, 1):.2f} bytes per token"
    )
