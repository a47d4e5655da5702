"""A person who does what the hint of an error says no longer meets that error."""

import io
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from tests.refusals import refused

from nudge import cli
from nudge.data import tokenizer as tokenizers

TEXT = "The little dog ran to the edge of the water.\n" * 60
TINY = ("--tokenizer", "bytes", "--steps", "1", "--set", "model.n_layer=1", "--set", "model.n_head=1")
TINY += ("--set", "model.n_embd=16", "--set", "train.batch_tokens=256", "--sample-every", "0")


def nudge(*words: str) -> None:
    """Type a command here; its errors are raised."""
    cli.cli.main(list(words), prog_name="nudge", standalone_mode=False)


@pytest.fixture(autouse=True)
def home(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a trained run, a text and the examples of a task; their names have spaces in them."""
    home = runs.parent
    monkeypatch.chdir(home)
    (runs / "small").rename(runs / "a run")
    (home / "a text.txt").write_text(TEXT, encoding="utf-8")
    (home / "book.txt").write_text(TEXT, encoding="utf-8")
    (home / "few.txt").write_text(TEXT[:600], encoding="utf-8")
    (home / "full").mkdir()
    (home / "full" / "file").touch()
    example = {"text": "The little dog ran to the edge of the water."}
    (home / "t.jsonl").write_text(json.dumps(example) + "\n", encoding="utf-8")
    return home


def hint_of(code: str, *words: str) -> str:
    """Type a command that is refused; return the hint."""
    with refused(code) as caught:
        nudge(*words)
    return caught.value.hint


def typed_after(hint: str, words: tuple[str, ...]) -> list[str]:
    """Return a command with what the hint says: its first quotation, the options in it, or the whole command in it."""
    typed: list[str] = []
    for word in words:
        if word == "OPTIONS":
            typed += shlex.split(re.split(" is |, ", hint[hint.index("--") :])[0])
        elif word == "COMMAND":
            typed += shlex.split(re.split(r"\) | or |; ", hint[hint.index("nudge ") :])[0])[1:]
        else:
            typed.append(re.sub("QUOTED", lambda _: re.findall("'([^']+)'", hint)[0], word))
    return typed


BF16 = ("--dtype", "bfloat16")
LOCAL = ("launch", "--on", "local", "--", "--data", "a text.txt")

FOLLOWED: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [  # the error, what is typed, what is typed after it
    ("config.unknown_recipe", ("plan", "gpt2_smal"), ("plan", "QUOTED")),
    ("config.unknown_gpu", ("plan", "--gpu", "h10"), ("plan", "--gpu", "QUOTED")),
    ("config.unknown_setting", ("plan", "--set", "train.lrr=1"), ("plan", "--set", "QUOTED=1")),
    ("config.unknown_choice", (*LOCAL, "--set", "machine.update=fas"), (*LOCAL, "--set", "machine.update=QUOTED")),
    ("config.heads_do_not_divide", ("plan", "--set", "model.n_embd=100"), ("plan", "OPTIONS")),
    ("config.partial_window", (*LOCAL, "--set", "train.batch_tokens=1000"), (*LOCAL, "OPTIONS")),
    ("config.no_assignment", ("plan", "--set", "train.lr"), ("plan", "OPTIONS")),
    ("config.price_without_date", ("plan", "--price", "3"), ("plan", "OPTIONS")),
    ("config.price_with_bad_date", ("plan", "--price", "3@monday"), ("plan", "OPTIONS")),
    ("config.no_speed_in_dtype", ("plan", "--gpu", "t4", *BF16), ("plan", "--gpu", "t4", "OPTIONS")),
    ("config.nothing_to_shard", ("plan", "--count", "1", "--layout", "shard"), ("plan", "--count", "1", "OPTIONS")),
    ("config.too_many_gpus", ("plan", "--count", "100000"), ("plan", "OPTIONS")),
    ("config.micro_batch_per_gpu", ("plan", "--micro-batch", "7"), ("plan",)),
    ("config.too_many_training_tokens", ("plan", "--tokens", "1e30"), ("plan", "OPTIONS")),
    ("config.budget_not_positive", ("plan", "--budget", "-1"), ("plan", "OPTIONS")),
    ("config.exclusive_options", ("plan", "--explain", "--lecture"), ("plan", "--lecture")),
    ("config.text_without_data", (*LOCAL[:4], "a text.txt"), (*LOCAL[:4], "OPTIONS")),
    ("config.option_of_other_engine", ("launch", "--spot", *LOCAL[1:]), LOCAL),
    ("config.job_hours", ("launch", "--hours", "2", *LOCAL[1:]), (*LOCAL, "--minutes", "120")),
    ("config.option_without_task", ("eval", "--file", "t.jsonl"), ("eval", "--file", "t.jsonl", "--task", "lambada")),
    ("config.several_tokens", ("predict", "--token", "zzzz"), ("predict", "--token", "32")),
    ("config.folder_not_empty", ("export", "--to", "hf", "--out", "full"), ("export", "--to", "hf", "--out", "new")),
    ("checkpoint.misspelled_parameter", ("inspect", "--tensor", "wte.weigth"), ("inspect", "--tensor", "QUOTED")),
    ("checkpoint.unknown_parameter", ("inspect", "--tensor", "q"), ("COMMAND",)),
    ("checkpoint.not_found", ("sample", "runs/b run"), ("QUOTED",)),
    ("data.missing", ("data", "prepare", "a txt.txt"), ("data", "prepare", "QUOTED", "--tokenizer", "bytes")),
    ("run.folder_taken", ("train", "--data", "book.txt", "--run", "runs/a run"), ("COMMAND",)),
    (
        "tokenizer.unknown",
        ("tokenizer", "encode", "--tokenizer", "byte"),
        ("tokenizer", "encode", "--tokenizer", "QUOTED"),
    ),
    ("sheet.unexpected_run", ("sheet", "io", "runs/a run", "--format", "md"), ("sheet", "io", "--format", "md")),
    ("sheet.unknown_ending", ("sheet", "io", "--out", "x.foo"), ("sheet", "io", "--out", "x.md")),
]


@pytest.mark.parametrize(("code", "typed", "then"), FOLLOWED, ids=[code for code, *_ in FOLLOWED])
def test_a_hint_that_is_followed_works(code: str, typed: tuple[str, ...], then: tuple[str, ...], monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a text")))
    hint = hint_of(code, *typed)
    words = typed_after(hint, then)
    nudge(*(words[0].split()[1:] if words[0].startswith("nudge ") else words))


def test_a_folder_that_a_hint_makes():
    hint = hint_of("config.plot_folder", "bench", "train", "--plot", "no folder/x.png")
    subprocess.run(shlex.split(hint), check=True)
    hint_of("config.plot_format", "bench", "train", "--plot", "no folder/x.gif")  # the folder is no longer the reason


BOOK = ("--data", "book.txt", "--tokenizer", "bytes")
SORTING = ("--data", "builtin:sorting", "--recipe", "llm_viz")
ROWS = ("--set", "model.block_size=11", "--set", "train.batch_tokens=110")
TRAINED = [  # the error, a training without its --steps, what is added to it as the hint says
    ("data.too_short", ("--data", "few.txt", *BOOK[2:], "--set", "model.block_size=256"), ("OPTIONS",)),
    ("config.record_length", (*SORTING, "--set", "model.block_size=64"), ROWS),
    ("config.sorting_tokenizer", (*SORTING, *ROWS, "--tokenizer", "bytes"), ("--tokenizer", "chars")),
    ("machine.no_device", (*BOOK, "--set", "machine.device=cudaa"), ("OPTIONS",)),
    ("machine.no_fast_update", (*BOOK, "--set", "machine.update=fast", "--set", "model.rotary=true"), ("OPTIONS",)),
    ("config.rotary_odd_head", (*BOOK, "--set", "model.rotary=true", "--set", "model.n_embd=15"), ("OPTIONS",)),
    (
        "config.micro_batch_does_not_divide",
        (*BOOK, "--set", "train.micro_batch=7"),
        ("--set", "train.micro_batch=none"),
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("code", "typed", "then"), TRAINED, ids=[code for code, *_ in TRAINED])
def test_a_training_that_a_hint_starts(code: str, typed: tuple[str, ...], then: tuple[str, ...]):
    sizes = ("n_layer=1", "n_head=1", "n_embd=16", "block_size=16")
    small = [part for size in sizes for part in ("--set", f"model.{size}")]
    typed = ("train", "--steps", "1", *small, *typed, "--run", "runs/new")
    nudge(*typed_after(hint_of(code, *typed), (*typed, *then)))


@pytest.mark.slow
def test_a_vocabulary_that_is_made_from_text():
    hint = hint_of("tokenizer.needs_text", "tokenizer", "encode", "--tokenizer", "bpe-500")
    first, then = hint.split(", then ")
    nudge(*shlex.split(first.replace("TEXT", "book.txt"))[1:])
    assert tokenizers.get(shlex.split(then)[1]).vocab_size > 256


def test_a_folder_that_is_not_prepared():
    hint = hint_of("data.not_prepared", "data", "info", "my tokens")
    nudge(*shlex.split(hint.replace("TEXT", "book.txt"))[1:], "--tokenizer", "bytes")
    nudge("data", "info", "my tokens")
