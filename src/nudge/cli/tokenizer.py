"""`nudge tokenizer`: train a vocabulary, and turn text into tokens and back."""

import codecs
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from nudge.cli.prompts import FilePath
from nudge.cli.terminal import echo, echo_json, write
from nudge.errors import TokenizerError

_IDS_A_LINE = 16


@click.group()
def tokenizer() -> None:
    """Train a vocabulary, and turn text into tokens and back.

    \b
    Example:
      nudge tokenizer train books/ --vocab-size 8192 --out tokenizer.json
      echo "to be or not" | nudge tokenizer encode --tokenizer tokenizer.json
    """


@tokenizer.command()
@click.argument("src", type=FilePath(), nargs=-1)
@click.option("--vocab-size", type=int, required=True, help="Number of tokens: 256 bytes, merges, and the end of text.")
@click.option("--out", type=FilePath(path_type=Path), required=True, help="The file to write.")
@click.option("--field", default="text", help="The field or column that holds the text (.jsonl, .parquet).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def train(src: tuple[str, ...], vocab_size: int, out: Path, field: str, as_json: bool) -> None:
    """Learn a byte-pair vocabulary from text.

    SRC is files, folders and globs. Without it, the text is Python's standard library. A small text may give fewer
    merges; the output then says so.

    \b
    Example:
      nudge tokenizer train books/ --vocab-size 8192 --out tokenizer.json
      nudge train --data books/ --tokenizer tokenizer.json
    """
    from nudge.cli.progress import prepare_with_bar
    from nudge.data import corpus, vocabulary
    from nudge.data.manifest import writing_to

    files = corpus.find(src)
    total = sum(file.n_bytes for file in files)
    documents = corpus.read_all(files, field)
    learned = prepare_with_bar(vocabulary.learn(f"bpe-{vocab_size}", documents, lambda text: text, total=total))
    with writing_to(out.parent):
        learned.save(out)
    if as_json:
        echo_json({"path": str(out), "vocab_size": learned.vocab_size, "sha256": learned.sha256})
        return
    fewer = f" (the text gives no more of the {vocab_size:,})" if learned.vocab_size < vocab_size else ""
    echo(f"{out}: {learned.vocab_size:,} symbols{fewer}, SHA-256 {learned.sha256[:12]}")


@tokenizer.command()
@click.option(
    "--tokenizer", "spec", type=FilePath(), metavar="NAME|FILE", required=True, help="bytes, gpt2, cl100k, or a file."
)
def encode(spec: str) -> None:
    """Turn text from standard input into token ids on standard output.

    \b
    Example:
      echo "to be or not" | nudge tokenizer encode --tokenizer gpt2
    """
    from nudge.data import tokenizer as tokenizers

    ids = tokenizers.get(spec).encode_bytes(sys.stdin.buffer.read())
    for start in range(0, len(ids), _IDS_A_LINE):
        echo(" ".join(map(str, ids[start : start + _IDS_A_LINE])))


@tokenizer.command()
@click.option(
    "--tokenizer", "spec", type=FilePath(), metavar="NAME|FILE", required=True, help="bytes, gpt2, cl100k, or a file."
)
def decode(spec: str) -> None:
    """Turn token ids from standard input into text on standard output.

    \b
    Example:
      echo "1462 307 393 407" | nudge tokenizer decode --tokenizer gpt2
    """
    from nudge.data import tokenizer as tokenizers

    chosen = tokenizers.get(spec)
    numbers = sys.stdin.buffer.read().removeprefix(codecs.BOM_UTF8)
    write(chosen.decode_bytes(_numbers(numbers)))


def _numbers(data: bytes) -> Iterator[int]:
    for word in data.split():
        if not word.isdigit():
            raise TokenizerError("not_a_token_id", word=word[:20].decode("utf-8", "replace"))
        yield int(word)
