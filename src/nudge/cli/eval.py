"""`nudge eval`: a model's loss on text that it was not trained on, and its scores at standard tasks."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nudge.cli.prompts import Count, FilePath
from nudge.cli.terminal import echo, echo_json
from nudge.errors import ConfigError
from nudge.eval.tasks import TASKS, Example, Task, read

if TYPE_CHECKING:
    from nudge.config import ModelConfig
    from nudge.eval.likelihood import Score
    from nudge.infer.engine import LanguageModel


@click.command("eval")
@click.argument("source", type=FilePath(), required=False)
@click.option(
    "--data",
    type=FilePath(),
    multiple=True,
    metavar="PATH",
    help="Other text or tokens. [default: the run's validation split]",
)
@click.option("--field", default="text", help="The field of .jsonl lines that holds the text.")
@click.option("--tokens", type=Count(min=1), metavar="N", help="Only the first N tokens of the text: 100K, 2M.")
@click.option("--task", type=click.Choice(list(TASKS)), help="Measure the score at a standard task instead.")
@click.option("--file", type=FilePath(path_type=Path), metavar="FILE", help="The task's examples: lines of JSON.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N examples.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def eval(
    source: str | None,
    data: tuple[str, ...],
    field: str,
    tokens: int | None,
    task: str | None,
    file: Path | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Measure the loss on new text, or the score at a standard task.

    SOURCE is a run folder, a checkpoint or an imported folder. Without it, the newest run under runs/ is used.

    \b
    Example:
      nudge eval
      nudge eval runs/tiny --data other.py
      nudge eval runs/tiny --data "books/*.txt" --tokens 100K
      nudge eval runs/gpt2 --task hellaswag --file hellaswag_val.jsonl --limit 200
    """
    from nudge.cli.prompts import load_model
    from nudge.data.prepare import find_text

    _check(task, file, limit, data, tokens)
    if data:
        find_text(data)
    examples = read(TASKS[task], file, limit) if task and file else []
    model = load_model(source)
    if task:
        _evaluate_task(model, TASKS[task], examples, as_json)
    else:
        _evaluate_text(model, data, field, tokens, as_json)


def _check(task: str | None, file: Path | None, limit: int | None, data: tuple[str, ...], tokens: int | None) -> None:
    if task and not file:
        raise ConfigError("task_without_file", task=task)
    if task and tokens:
        raise ConfigError("exclusive_options", options="--tokens, --task")
    if task and data:
        raise ConfigError("data_with_task", task=task)
    if not task and (file or limit):
        raise ConfigError("option_without_task", option="--file" if file else "--limit", tasks=", ".join(TASKS))


def _evaluate_text(
    model: "LanguageModel", data: tuple[str, ...], field: str, tokens: int | None, as_json: bool
) -> None:
    from nudge.cli.progress import with_bar
    from nudge.eval.loss import count_solved, evaluate, run_dataset

    title = f"measuring windows of {model.network.config.block_size:,} tokens"
    result = evaluate(
        model,
        data or None,
        field=field,
        n_tokens=tokens,
        watched=lambda reading: with_bar(reading.windows, reading.total, title, size_of=reading.size_of),
    )
    stopped = tokens is not None and result.tokens >= tokens
    splits = {}
    if not data and not stopped and (dataset := run_dataset(model)).manifest.records:
        splits = {records.name: count_solved(model.network, records) for records in (dataset.val, dataset.train)}
    if as_json:
        values = {**dataclasses.asdict(result), "perplexity": result.perplexity, "stopped": stopped}
        counts = {"solved": {name: dataclasses.asdict(split) for name, split in splits.items()}} if splits else {}
        echo_json(values | counts)
        return
    echo(f"loss           {result.loss:.4f} nats per token")
    echo(f"perplexity     {_format_score('perplexity', result.perplexity)}")
    echo(f"bits per byte  {result.bits_per_byte:.4f}")
    echo(f"tokens         {result.tokens:,}{', the first of the text (--tokens)' if stopped else ''}")
    for name, split in splits.items():
        examples = {"val": "held-out", "train": "training"}[name]
        echo(f"solved         {split.right:,} of {split.total:,} {examples} examples exactly")


def _evaluate_task(model: "LanguageModel", task: Task, examples: list[Example], as_json: bool) -> None:
    from nudge.cli.progress import with_bar
    from nudge.eval import likelihood

    config = model.network.config
    answers = likelihood.continuations(model, examples)
    found = with_bar(
        likelihood.log_likelihoods(model.network, answers), len(answers), f"reading {len(answers):,} answers"
    )
    scores = likelihood.scores(task, examples, found, vocab_size=config.vocab_size)
    cut = sum(answer.n_cut > 0 for answer in answers)
    recipe, published = _published(config, task)
    if as_json:
        values = {
            name: {**dataclasses.asdict(score), "published": published.get(name)} for name, score in scores.items()
        }
        counts = {"examples": len(examples), "answers": len(answers), "answers_cut": cut}
        echo_json({"task": task.name, **counts, "scores": values})
        return
    echo(f"{task.name}: {len(examples):,} example{'s' * (len(examples) > 1)}, none shown before a question")
    if cut:
        echo(f"{cut:,} of {len(answers):,} answers lost the beginning of their context: the window is too short")
    for line in _table(scores, published, f"published, {recipe}" if published else ""):
        echo(line)


def _published(config: "ModelConfig", task: Task) -> tuple[str, dict[str, float]]:
    """Return the recipe and the published scores of OpenAI's checkpoint of that size; "" and {} if there is none."""
    from nudge.plan.published import QUALITY
    from nudge.recipes import recipe

    for quality in QUALITY:
        other = recipe(quality.recipe).model
        if dataclasses.replace(config, block_size=other.block_size, zero_init=other.zero_init) == other:
            scores = {
                "hellaswag": {"acc_norm": quality.hellaswag / 100},
                "lambada": {"acc": quality.lambada / 100, "perplexity": quality.lambada_perplexity},
            }
            return quality.recipe, scores.get(task.name, {})
    return "", {}


def _table(scores: "Mapping[str, Score]", beside: Mapping[str, float], published: str) -> list[str]:
    rows = [("", "", "standard error", "a blind guess", published)]
    for name, score in scores.items():
        stderr = "" if score.stderr is None else f"± {_format_score(name, score.stderr)}"
        other = _format_score(name, beside[name]) if name in beside else ""
        rows.append((name, _format_score(name, score.value), stderr, _format_score(name, score.guess), other))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [f"{row[0]:<{widths[0]}}  {'  '.join(map(str.rjust, row[1:], widths[1:]))}".rstrip() for row in rows]


def _format_score(score: str, value: float) -> str:
    if score != "perplexity":
        return f"{value:.2%}"
    return f"{value:,.2f}" if value < 1e6 else f"{value:.3g}"
