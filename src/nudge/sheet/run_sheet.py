"""The sheet of a run: the text lecture/run.LANGUAGE.md, filled in with measured figures.

A line of the text is left out if one of its `{{placeholders}}` has no value for this run. So the text has every
possible statement about a run, and this module decides which statements are true.
"""

import json
import math
import re
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from nudge.config import SORTING
from nudge.events import Evaluation, Step
from nudge.model.sizes import parameter_counts
from nudge.plan.planner import CHINCHILLA, rent
from nudge.sheet import measured
from nudge.sheet.inline import escape
from nudge.sheet.lecture import PLACEHOLDER, template
from nudge.sheet.measured import NEAR, SOLVED, MeasuredRun
from nudge.sheet.page import Language
from nudge.sheet.sanitize import MISSING, Pen, cells, is_plain
from nudge.util import formatting

MOST_POINTS = 2000  # of a curve; more points look the same on paper
MOST_DOTS = 50
ROWS, ROWS_OF_HIGH_CHART = 5, 9  # of the table of evaluations beside the chart
NAME_CELLS = 30  # of a name on a line that cannot be broken; a Hangul syllable takes two cells
LINE_CELLS = 100  # of a line of a sample
SAMPLE_CELLS, INIT_CELLS = 190, 20
SAMPLE_MARKS = ("yellow", "orange", "green")
ASIDE_CELLS = 24  # samples up to this width are beside the chart, longer ones below it
HIGHEST_CHART_EM, LINE_EM = 21.5, 1.5  # the height of a chart with nothing below it, and of a line below it
_SOURCES = {
    "en": {"python": "Python's standard library", "sorting": "letters to sort", "more": "and {n} more"},
    "ko": {"python": "Python 표준 라이브러리", "sorting": "글자 정렬 예제", "more": "외 {n}개"},
}  # fmt: skip

Values = dict[str, str | None]


def run_sheet_text(folder: Path, language: Language, can_draw: Callable[[str], bool] = is_plain) -> str:
    """Return the Markdown of a run's sheet. Characters that are not `can_draw` become □.

    Raises: SheetError if the folder is not a run or has nothing to draw; TokenizerError if its vocabulary is missing.
    """
    return _fill_in(template("run", language), values_of(measured.read(folder), Pen(can_draw), language))


def values_of(run: MeasuredRun, pen: Pen, language: Language) -> Values:
    """Return the values of all placeholders; None means to leave out the lines with that placeholder."""
    samples = _sample_values(run, pen)
    return {
        **_title_values(run, pen),
        **_model_values(run, pen),
        **_data_values(run, pen, language),
        **_chart_values(run, ROWS if samples["aside"] is None else ROWS_OF_HIGH_CHART),
        **_start_values(run, pen),
        **samples,
        **_machine_values(run, pen, language),
        **_takeaway_values(run),
        **_next_values(run, pen),
    }


def _fill_in(text: str, values: Values) -> str:
    """Remove the lines without a value and the boxes that become empty, then fill in the values.

    In this order nothing in a value is read as a placeholder or a box.
    """
    lines = [line for line in text.splitlines() if all(values[name] is not None for name in PLACEHOLDER.findall(line))]
    whole = re.sub(r"^```[a-z ]+\n```$", "", "\n".join(lines), flags=re.MULTILINE)
    whole = re.sub(r"\n{3,}", "\n\n", whole)
    return PLACEHOLDER.sub(lambda found: values[found[1]] or "", whole) + "\n"


# The regions, in the order of the page


def _title_values(run: MeasuredRun, pen: Pen) -> Values:
    """Return the title's values: name, date, seed, and progress under the run's state."""
    done, steps = f"{run.summary.steps:,}", f"{run.started.steps:,}"
    corners = {"finished": done, "running": f"{done} / {steps}", "interrupted": f"{done} / {steps}", "diverged": done}
    return {
        "name": pen.yaml_text(run.folder.resolve().name, NAME_CELLS),
        "date": time.strftime("%Y-%m-%d", time.localtime(run.run_json.created)),
        "seed": str(run.config.seed),
        **{state: text if run.state == state else None for state, text in corners.items()},
    }


def _model_values(run: MeasuredRun, pen: Pen) -> Values:
    config = run.config
    return {
        "parameter_rows": "\n".join(_parameter_rows(run)),
        "sizes": f"T = {config.model.block_size:,}, H = {config.model.n_head}",
        "parameters": f"{parameter_counts(config.model).total:,}",
        "parameters_short": short_number(parameter_counts(config.model).total),
        "block_size": f"{config.model.block_size:,}",
        "recipe": pen.text(config.recipe, NAME_CELLS),
        "optimizer": {"adamw": "AdamW", "muon": "Muon"}[config.train.optimizer],
        "lr": f"{config.train.lr:g}",
        "schedule": config.train.schedule,
        "batch_tokens": f"{run.started.batch_tokens:,}",
    }


def _parameter_rows(run: MeasuredRun) -> Iterable[str]:
    """Yield a table row for each component: name, shapes of its matrices, parameters with biases, share."""
    model, counts = run.config.model, parameter_counts(run.config.model)
    V, T, C, L = model.vocab_size, model.block_size, model.n_embd, model.n_layer
    parts = [
        ("wte (token)", f"{V:,} × {C:,}", counts.wte),
        ("wpe (position)", f"{T:,} × {C:,}", counts.wpe),
        (f"attention × {L}", f"{C:,} × {3 * C:,}, {C:,} × {C:,}", counts.attention),
        (f"MLP × {L}", f"{C:,} × {4 * C:,}, {4 * C:,} × {C:,}", counts.mlp),
        (f"layer norm × {2 * L + 1}", f"2 × {C:,}", counts.norms),
        ("head", f"{C:,} × {V:,}", counts.head),
    ]
    for name, shapes, count in parts:
        if count:
            yield f"| {name} | {shapes} | {count:,} | {count / counts.total:.1%} |"
    if not counts.head:
        yield "| head | = wte | 0 | 0% |"


def _data_values(run: MeasuredRun, pen: Pen, language: Language) -> Values:
    dataset, epochs, tokens = run.dataset, run.epochs, f"{run.summary.tokens:,}"
    values: Values = {
        "vocabulary": f"{run.config.model.vocab_size:,}",
        "tokenizer": pen.text(run.tokenizer.name, NAME_CELLS),
        "bytes_per_token": None if run.bytes_per_token is None else f"{run.bytes_per_token:.2f}",
        "epochs": None if epochs is None else f"{epochs:.2g}" if epochs < 0.1 else f"{epochs:,.2f}",
        "tokens": tokens,
        "tokens_alone": tokens if epochs is None else None,
        "measured_tokens": f"{run.last.tokens:,}" if dataset is None else None,
        "source": pen.text(_source(run, language), 2 * NAME_CELLS),
        "source_alone": "" if dataset is None else None,
        **dict.fromkeys(("source_bytes", "train_tokens", "train_bytes", "train_records", "val_tokens", "val_share")),
        **_cost_values(run),
    }
    if dataset is None:
        return values
    train, val, records = dataset.manifest.train, dataset.manifest.val, dataset.manifest.records
    return values | {
        "train_tokens": f"{train.n_tokens:,}",
        "source_bytes": short_number(dataset.manifest.source.n_bytes, "B"),
        "train_bytes": None if records else short_number(train.text_bytes, "B"),
        "train_records": f"{train.n_tokens // records.n_tokens:,}" if records else None,
        "val_tokens": f"{val.n_tokens:,}",
        "val_share": f"{val.n_tokens / (train.n_tokens + val.n_tokens):.0%}",
    }


def _source(run: MeasuredRun, language: Language) -> str:
    """Return the names of the training text's files, or what the text is without files."""
    paths = run.dataset.manifest.source.paths if run.dataset else run.config.data.paths
    if not paths or SORTING in paths:
        return _SOURCES[language]["sorting" if paths else "python"]
    names = [Path(path).name or path for path in paths]
    more = " " + _SOURCES[language]["more"].format(n=len(names) - 2) if len(names) > 2 else ""
    return ", ".join(names[:2]) + more


def _cost_values(run: MeasuredRun) -> Values:
    """Return the run's cost if its price is known, otherwise a forecast for the same tokens on a rented GPU."""
    values: Values = dict.fromkeys(("usd", "usd_per_hour", "rented_usd"))
    price = run.started.usd_per_hour
    if price is not None:
        usd = run.summary.train_s / 3600 * price
        return values | {"usd": formatting.dollars(usd), "usd_per_hour": formatting.dollars(price)}
    rented = rent(run.config.model, run.summary.tokens, batch_tokens=run.started.batch_tokens)
    return values | {"rented_usd": formatting.dollars(rented.usd.likely) if rented.usd else None}


def _chart_values(run: MeasuredRun, n_rows: int) -> Values:
    """Return the curves through the measured points, and the rows of the table beside them."""
    every = _stride(run.steps)
    best, last_step = run.best, max(run.steps[-1].step, run.last.step)
    return {
        "train_points": _points(run.steps),
        "validation_points": _points(run.evaluations),
        "dots": json.dumps(len(run.evaluations) <= MOST_DOTS),
        "n_steps": f"{len(run.steps):,}" if every == 1 else None,
        "every": f"{every:,}" if every > 1 else None,
        "n_evaluations": f"{len(run.evaluations):,}",
        "last_step": str(last_step),
        "few_ticks": json.dumps([[at, str(at)] for at in range(last_step + 1)]) if last_step < 5 else None,
        "guess_exact": repr(run.guess),
        "guess": figure(run.guess),
        "best_step_exact": str(best.step),
        "best_exact": repr(best.loss),
        "best_step": f"{best.step:,}",
        "best": figure(best.loss),
        "evaluation_rows": "\n".join(
            _evaluation_row(run, event) for event in _choose_evaluations(run.evaluations, best, n_rows)
        ),
    }


def _points(events: Sequence[Step | Evaluation]) -> str:
    """Return at most `MOST_POINTS` points, and the last one, as YAML."""
    points = [(event.step, event.loss) for event in events]
    return json.dumps([*points[: -1 : _stride(points)], points[-1]])


def _stride(points: Sequence[object]) -> int:
    return math.ceil(len(points) / MOST_POINTS)


def _choose_evaluations(evaluations: Sequence[Evaluation], best: Evaluation, n_rows: int) -> list[Evaluation]:
    """Return the first, the last and the best evaluation, and some others, `n_rows` or one more in all."""
    last = len(evaluations) - 1
    places = {round(part * last / (n_rows - 1)) for part in range(n_rows)}
    return [event for at, event in enumerate(evaluations) if at in places or event is best]


def _evaluation_row(run: MeasuredRun, event: Evaluation) -> str:
    train = run.train_loss(event.step)
    loss = f"=={figure(event.loss)}==" if event is run.best else figure(event.loss)
    return f"| {event.step:,} | {'' if train is None else figure(train)} | {loss} | {perplexity(event.loss)} |"


def _start_values(run: MeasuredRun, pen: Pen) -> Values:
    """Return the first loss, of the initial network, and whether it is near the loss of a guess."""
    loss = run.evaluations[0].loss if run.evaluations[0].step == 0 else run.steps[0].loss
    is_near = abs(loss - run.guess) <= NEAR * run.guess
    given = run.config.init
    return {
        "start": figure(loss),
        "init": pen.text(given, INIT_CELLS) if given else None,
        "starts_near": "" if is_near and not given else None,
        "starts_far": "" if not is_near and not given else None,
    }


def _sample_values(run: MeasuredRun, pen: Pen) -> Values:
    """Return the first, a middle and the last sample. A footnote explains the first □ that replaces a character."""
    shown = run.summary.film
    if len(shown) > 3:
        shown = (shown[0], shown[len(shown) // 2], shown[-1])
    texts = [pen.plain_text(sample.text, SAMPLE_CELLS) for sample in shown]
    items = [
        f"- =={mark}:{sample.step:,}== {escape(text)}"
        for mark, sample, text in zip(SAMPLE_MARKS, shown, texts, strict=False)
    ]
    has_lost = [text.count(MISSING) > sample.text.count(MISSING) for sample, text in zip(shown, texts, strict=True)]
    if any(has_lost):
        items[has_lost.index(True)] += "[^2]"
    prompt = pen.text(shown[0].prompt, NAME_CELLS) if shown else None
    return {
        "prompt": prompt or None,
        "no_prompt": "" if prompt == "" else None,
        "samples": "\n".join(items) or None,
        "lacking": MISSING if any(has_lost) else None,
        **_sample_layout(texts),
    }


def _sample_layout(texts: Sequence[str]) -> Values:
    """Return the layout: short samples beside the chart, longer ones below a lower chart."""
    is_aside = all(cells(text) <= ASIDE_CELLS for text in texts)
    n_lines = 0 if is_aside else 1 + sum(math.ceil(cells(text) / LINE_CELLS) for text in texts)
    return {
        "aside": "" if is_aside else None,
        "below": None if is_aside else "",
        "chart_height": f"{HIGHEST_CHART_EM - LINE_EM * n_lines:.1f}",
    }


def _machine_values(run: MeasuredRun, pen: Pen, language: Language) -> Values:
    started, summary, machine = run.started, run.summary, run.run_json.machine
    on_gpu, several = bool(machine.gpu), started.processes > 1
    wall_s = _wall_s(run)
    forecast_s = None if wall_s is None else started.forecast_s
    seconds = {"train_time": summary.train_s, "wall_time": wall_s, "forecast": forecast_s}
    return {
        "machine": pen.text(machine.gpu or machine.cpu or started.device, NAME_CELLS),
        "threads": f"{started.threads:,}" if not on_gpu and not several else None,
        "gpus": f"{started.processes:,}" if on_gpu else None,
        "processes": f"{started.processes:,}" if several and not on_gpu else None,
        "threads_each": f"{started.threads:,}",
        "dtype": started.dtype,
        "update": pen.text(run.config.machine.update or machine.update),
        **{name: None if s is None else formatting.duration(s, language) for name, s in seconds.items()},
        "tokens_per_s": f"{summary.tokens_per_s:,.0f}",
        "peak": short_number(started.peak_flops, "FLOP/s"),
        "peak_share": None if summary.peak_share is None else f"{summary.peak_share:.0%}",
        "flops": short_number(summary.flops, "FLOP"),
        "skipped": f"{run.n_skipped:,}" if run.n_skipped else None,
        "resumed": f"{run.n_resumed:,}" if run.n_resumed else None,
    }


def _wall_s(run: MeasuredRun) -> float | None:
    """Return the seconds of a whole run; None if it was resumed, is not finished, or the clock was set back."""
    end = run.summary.stopped
    if run.state != "finished" or not end or run.n_resumed or end.step != run.summary.steps:
        return None
    wall_s = end.time - run.started.time
    return wall_s if wall_s >= 0 else None


def _takeaway_values(run: MeasuredRun) -> Values:
    """Return conclusions by the rules of measured.py, and the figures behind them."""
    last, trend = figure(run.last.loss), run.trend
    train_best, train_last = run.train_loss(run.best.step), run.train_loss(run.last.step)
    ratio = f"{run.tokens_per_parameter:.3g}"
    is_short = run.tokens_per_parameter < CHINCHILLA
    return {
        "diverged_at": f"{run.summary.steps:,}" if run.state == "diverged" else None,
        "learned": f"{run.learned:.0%}" if run.learned > 0 else None,
        "worse": last if run.learned <= 0 else None,
        "last": last,
        "clear": figure(run.least_difference),
        "overfit_last": last if trend == "overfitting" else None,
        "overfit_train_best": None if train_best is None else figure(train_best),
        "overfit_train_last": None if train_last is None else figure(train_last),
        "unsteady_last": last if trend == "unsteady" else None,
        "steady_last": last if trend in ("falling", "flat", "unknown") else None,
        "trend_falling": "" if trend == "falling" else None,
        "trend_flat": "" if trend == "flat" else None,
        "earlier_step": f"{run.earlier_evaluation.step:,}" if run.earlier_evaluation else None,
        "earlier": figure(run.earlier_evaluation.loss) if run.earlier_evaluation else None,
        "perplexity": perplexity(run.best.loss),
        "perplexity_first": perplexity(run.evaluations[0].loss) if len(run.evaluations) > 1 else None,
        "perplexity_last": perplexity(run.last.loss),
        "bits_per_byte": None if run.bytes_per_token is None else f"{run.best.bits_per_byte:.3f}",
        "tokens_per_parameter": ratio,
        "short_tokens_per_parameter": ratio if is_short else None,
        "long_tokens_per_parameter": None if is_short else ratio,
        "optimum": str(CHINCHILLA),
        "optimum_steps": f"{run.steps_to_optimum:,}",
    }


def _next_values(run: MeasuredRun, pen: Pen) -> Values:
    """Return the command to type next. The user replaces RUN, MODEL and TEXT in it."""
    config, steps = run.config, run.started.steps
    has_own_text = config.data.paths and SORTING not in config.data.paths
    text = " --data TEXT" if has_own_text else ""
    first = f" --init {_path_or_placeholder(config.init, 'MODEL')}" if config.init else ""
    again = f"nudge train --recipe {shlex.quote(config.recipe)}{first}{text}"
    path = _path_or_placeholder(str(run.folder), "RUN")
    commands = {
        "next_runs": "nudge runs",
        "next_resume": f"nudge resume {path}",
        "next_slower": f"{again} --set train.lr={config.train.lr / 3:.1g}",
        "next_shorter": f"{again} --steps {run.best.step}",
        "next_longer": f"nudge resume {path} --steps {2 * steps}",
        "next_larger": f"{again} --set model.n_layer={2 * config.model.n_layer}",
        "next_predict": f"nudge predict {path}",
    }
    # Every learning-rate schedule ends in a flat loss: the network is too small only if it has also read enough tokens.
    is_full = run.tokens_per_parameter >= CHINCHILLA
    by_trend = {
        "overfitting": "next_shorter" if run.best.step else "next_slower",
        "unsteady": "next_slower",
        "flat": "next_larger" if is_full and not config.init else "next_longer",
    }
    chosen = {"running": "next_runs", "interrupted": "next_resume", "diverged": "next_slower"}.get(run.state)
    chosen = chosen or ("next_predict" if run.learned >= SOLVED else by_trend.get(run.trend, "next_longer"))
    return {name: pen.code(command) if name == chosen else None for name, command in commands.items()}


def _path_or_placeholder(path: str, placeholder: str) -> str:
    return shlex.quote(path) if len(path) <= NAME_CELLS else placeholder


# Figures


def figure(loss: float) -> str:
    """Format a loss: 3.91 -> 3.910."""
    return f"{loss:.3f}" if abs(loss) < 1000 else short_number(loss)


def perplexity(loss: float) -> str:
    """Format e^loss, as a power if it is too large to read: 3.91 -> 49.9, 16.3 -> 12M, 87.1 -> e^87.100."""
    if loss > 27:
        return f"e^{figure(loss)}"
    value = math.exp(loss)
    return short_number(value) if value >= 1e6 else f"{value:,.{2 if value < 10 else 1 if value < 1000 else 0}f}"


def short_number(number: float, unit: str = "") -> str:
    """Format a number with three digits: 4220000 -> 4.22M, 1.56e9 -> 1.56B, with a unit 3.93e11 -> 393 GFLOP/s."""
    number = float(f"{number:.3g}")
    for power, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G" if unit else "B"), (1e6, "M"), (1e3, "k")):
        if number >= power:
            return f"{number / power:.3g} {prefix}{unit}" if unit else f"{number / power:.3g}{prefix}"
    return f"{number:.3g} {unit}".rstrip()
