"""The report at the end of a run: its samples, the effect of one update, and the results in numbers."""

import math
import re
import shlex
from collections.abc import Iterator, Set
from pathlib import Path

import torch

from nudge import events
from nudge.cli.output import Console, Table, Text, make_console, make_facts, show_next
from nudge.data.shards import Dataset, open_dataset
from nudge.eval.loss import count_solved
from nudge.infer.engine import LanguageModel, load
from nudge.look.single_update import Nudge, find_example, nudge_once
from nudge.plan.planner import rent
from nudge.runs.folder import RunFolder
from nudge.runs.summary import Summary, summarize
from nudge.util.formatting import about, clock, dollars
from nudge.util.terminal_text import one_line

SHOWN_CHARACTERS = 160
WORD = re.compile(r"[^\W\d_]{2,}")  # letters; a name such as is_open has two
READ_FOR_WORDS = 1_000_000  # tokens of the validation text


def show(run: Path) -> None:
    """Print the report of a finished run."""
    console = make_console()
    folder = RunFolder(run)
    summary = summarize(events.read(folder.events))
    if summary.started is None or not summary.steps:
        return
    model = load(run)
    dataset = open_dataset(Path(summary.started.data))
    console.print()
    _show_film(console, summary)
    _show_nudge(console, model, dataset)
    _show_numbers(console, summary, model, dataset)
    _show_next(console, run, summary)


def _show_film(console: Console, summary: Summary) -> None:
    """Print a few samples from the same prompt and seed, from noise to text."""
    if not summary.film:
        return
    table = Table(
        title="The same prompt and seed, as it learned", title_justify="left", title_style="bold", expand=True
    )
    for sample in summary.film:
        table.add_column(f"update {sample.step:,}", ratio=1, overflow="fold")
    texts = (Text.assemble((s.prompt, "bold"), s.text[:SHOWN_CHARACTERS]) for s in summary.film)
    table.add_row(*texts)
    console.print(table)


def _show_nudge(console: Console, model: LanguageModel, dataset: Dataset) -> None:
    """Do one real update on one example of the validation text, and print its effect."""
    block_size = model.network.config.block_size
    tokens = torch.from_numpy(dataset.val.read(0, min(len(dataset.val), block_size + 1)).astype("int64"))
    position = find_example(model.network, tokens, at_least=min(8, len(tokens) - 1))
    context, target = tokens[:position].tolist(), int(tokens[position])
    nudge = nudge_once(model.network, context, target)
    console.print(
        Text.assemble(("\nOne nudge", "bold"), ": one update on one example, and the right token is more likely")
    )
    shown = one_line(model.tokenizer.decode(context[-16:]))
    console.print(Text.assemble(("  context  ", "dim"), "…", shown))
    console.print(
        Text.assemble(("  next     ", "dim"), (repr(model.tokenizer.decode([target])), "bold"), "  ", _change(nudge))
    )


def _change(nudge: Nudge) -> Text:
    before, after = f"{nudge.probability_before:.2%}", f"{nudge.probability_after:.2%}"
    ranks = f"rank {nudge.rank_before:,} → {nudge.rank_after:,}"
    return Text.assemble(
        (before, "bold"), " → ", (after, "bold dark_orange"), f"  ({ranks}, learning rate {nudge.lr:.2g})"
    )


def _show_numbers(console: Console, summary: Summary, model: LanguageModel, dataset: Dataset) -> None:
    console.print()
    console.print(make_facts(_numbers(summary, model, dataset)))


def _numbers(summary: Summary, model: LanguageModel, dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Yield (name, words) for each result of the run."""
    started, V = summary.started, model.network.config.vocab_size
    assert started is not None, "a run that made updates was started"
    if summary.first_loss is not None and summary.last_loss is not None:
        guess = f"a guess among {V:,} tokens: ln {V:,} = {math.log(V):.3f}"
        yield "training loss", f"{summary.first_loss:.3f} → {summary.last_loss:.3f} nats per token ({guess})"
    first, last = summary.first_evaluation, summary.last_evaluation
    if first and last:
        part = f" (the first on {first.tokens:,} of them)" if first.tokens < last.tokens else ""
        losses = f"{first.loss:.3f} → {last.loss:.3f} nats per token"
        yield "validation loss", f"{losses}, on {last.tokens:,} tokens{part}"
        yield "bits per byte", f"{first.bits_per_byte:.3f} → {last.bits_per_byte:.3f} on validation text"
    if dataset.manifest.records:
        yield "solved exactly", _count_solved(model, dataset)
    elif summary.samples:
        yield "real words", _real_words(summary, model, dataset)
    share = summary.peak_share
    speed = f"{summary.tokens:,} tokens, {summary.tokens_per_s:,.0f} tokens/s"
    if share is None:
        peak = f"more than the {started.dtype} peak measured at the start, while the machine was busy"
    else:
        peak = f"{share:.0%} of this machine's {started.dtype} peak"
    yield "time here", f"{clock(summary.train_s)} of updates, {speed}, {peak}"
    yield "on a rented H100", _rental_cost(summary, model, batch_tokens=started.batch_tokens)


def _rental_cost(summary: Summary, model: LanguageModel, *, batch_tokens: int) -> str:
    """Return the time and cost of the same tokens on a rented H100, as `nudge plan` forecasts them."""
    rented = rent(model.network.config, summary.tokens, batch_tokens=batch_tokens)
    assert rented.usd is not None, "the H100 has a price"
    return (
        f"at least {about(rented.hours.likely)} and {dollars(rented.usd.likely)}, at "
        f"{dollars(rented.usd.likely / rented.hours.likely)} an hour and {rented.speed.mfu:.0%} of its peak"
        + (", which so small a model does not reach" if rented.is_extrapolated else "")
    )


def _count_solved(model: LanguageModel, dataset: Dataset) -> str:
    """Return a text with the number of records that the model answers exactly."""
    val, train = (count_solved(model.network, records) for records in (dataset.val, dataset.train))
    return f"{val.right:,} of {val.total:,} held out, {train.right:,} of {train.total:,} trained on"


def _real_words(summary: Summary, model: LanguageModel, dataset: Dataset) -> str:
    """Return the share of words in the first sample and in the last ones that the validation text has, too."""
    read = dataset.val.read(0, min(len(dataset.val), READ_FOR_WORDS))
    known = set(WORD.findall(model.tokenizer.decode(read.tolist())))
    n = min(10, max(1, len(summary.samples) // 2))
    first, last = (
        share_known(" ".join(sample.text for sample in samples), known)
        for samples in (summary.samples[:1], summary.samples[-n:])
    )
    return f"{first:.0%} → {last:.0%} of the words in the samples occur in the validation text (first one, last {n})"


def share_known(text: str, known: Set[str]) -> float:
    """Return the share of a text's words that are known; 0 for a text without words."""
    words = WORD.findall(text)
    return sum(word in known for word in words) / max(len(words), 1)


def _show_next(console: Console, run: Path, summary: Summary) -> None:
    prompt = summary.samples[-1].prompt if summary.samples else ""
    option = ("--prompt", prompt) if prompt.strip() and prompt.isprintable() else ()
    show_next(
        console,
        (shlex.join(("nudge", "sample", str(run), *option)), "write with it"),
        (shlex.join(("nudge", "resume", str(run), "--steps", str(2 * summary.steps))), "train it twice as long"),
        ("nudge train --data YOUR_TEXT.txt", "train one on your own text"),
    )
