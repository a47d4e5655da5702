"""`nudge plan`: forecasts of the memory, time and money of a training run."""

import shlex
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from nudge.cli import complete
from nudge.cli.terminal import echo, echo_json
from nudge.errors import ConfigError

if TYPE_CHECKING:
    from nudge.plan.planner import Ask, Plan


@click.command()
@click.argument("recipe", required=False, shell_complete=complete.recipes)
@complete.set_option("Any setting, such as model.n_layer=24; also of networks that nudge only plans, see above.")
@click.option("--params", metavar="N", help="Plan a network of about N parameters, on chinchilla tokens: 350M, 8.0B.")
@click.option(
    "--tokens",
    metavar="N",
    help="Run length in tokens, e.g. 10M, or chinchilla (20 per parameter). [default: the recipe's, or chinchilla]",
)
@click.option("--budget", type=float, metavar="USD", help="Find out how far this money goes.")
@click.option(
    "--hours", type=float, metavar="H", help="Find out how many GPUs it takes, or with --count how far it goes."
)
@click.option(
    "--gpu",
    shell_complete=complete.gpus,
    metavar="NAME",
    help="4090, a100-40, a100-80, h100, h200, h800, b200, t4, l4, tpu-v3, cpu. [default: h100]",
)
@click.option("--count", type=int, metavar="N", help="Number of GPUs. [default: 1, or 8 without --gpu]")
@click.option("--price", metavar="USD@DATE", help="Price of one GPU per hour, and its date: 2.49@2026-11-20.")
@click.option(
    "--dtype", type=click.Choice(["bfloat16", "float32"]), help="Number type of matrix products. [default: bfloat16]"
)
@click.option(
    "--layout",
    type=click.Choice(["auto", "data", "shard"]),
    default="auto",
    help="data: the whole state on each GPU; shard: divided among them; auto: the fastest that fits.",
)
@click.option("--micro-batch", type=int, metavar="N", help="Sequences per pass of a GPU. [default: the most that fit]")
@click.option(
    "--recompute/--no-recompute", default=None, help="Save memory by computing activations twice. [default: if needed]"
)
@click.option("--explain", is_flag=True, help="Print every formula with its numbers.")
@click.option("--lecture", is_flag=True, help="Print the cost of GPT-2 in 2019 and 2024, and today's models.")
@click.option("--validate", is_flag=True, help="Predict published runs from the others; exit with 1 if inaccurate.")
@click.option("--calibrate", is_flag=True, help="Measure 30 seconds of a run here, and forecast all of it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
def plan(
    recipe: str | None, explain: bool, lecture: bool, validate: bool, calibrate: bool, as_json: bool, **options: Any
) -> None:
    """Forecast the memory, time and money that a training run needs.

    RECIPE is gpt2_small by default. Times come from published runs, with an 80% interval;
    --validate shows the errors. No GPU is needed, and nothing is downloaded.

    Four settings describe networks that nudge plans but does not train: model.n_kv_head (grouped queries), model.ffn
    (width of the MLP), model.swiglu=true, and model.bias=false (also for RMSNorm).

    \b
    Example:
      nudge plan                                   gpt2_small on 8 x H100
      nudge plan gpt2_xl --explain                 every formula
      nudge plan --budget 100                      what $100 trains
      nudge plan gpt2_small --gpu 4090             how long one 4090 takes
      nudge plan gpt2_xl --hours 24 --gpu h100     how many GPUs it takes
      nudge plan --params 8.0B --set model.swiglu=true --set model.n_kv_head=8
    """
    if sum((lecture, validate, calibrate, explain)) > 1:
        raise ConfigError("exclusive_options", options="--explain, --lecture, --validate, --calibrate")
    if options["params"] and (lecture or validate or calibrate):
        raise ConfigError("exclusive_options", options="--params, --lecture, --validate, --calibrate")
    if lecture:
        _lecture(as_json)
    elif validate:
        _validate(as_json)
    elif calibrate:
        _calibrate(recipe or "tiny", options["settings"], options["tokens"], as_json)
    elif recipe is None and _is_only_limited(options):
        _affordable(options, as_json)
    else:
        _plan(recipe or "gpt2_small", options, explain=explain, as_json=as_json)


def _is_only_limited(options: dict[str, Any]) -> bool:
    """Return whether there is a budget or a time, but neither tokens nor sizes of a network."""
    limited = options["budget"] is not None or options["hours"] is not None
    return limited and options["tokens"] is None and options["params"] is None and not options["settings"]


def _plan(recipe: str, options: dict[str, Any], *, explain: bool, as_json: bool) -> None:
    from nudge import config as configs
    from nudge.plan import explain as explanation
    from nudge.plan import losses, questions
    from nudge.plan.planner import plan as planned

    settings = configs.parse_settings(options["settings"])
    ask = questions.complete_ask(recipe, **{**options, "settings": settings})
    counted = options["count"] is not None
    answer = _answer(ask, budget=options["budget"], hours=options["hours"], counted=counted)
    found = planned(ask)
    if as_json:
        others = {
            "formulas": _rows_to_json(explanation.formulas(found)),
            "losses": _rows_to_json(losses.published_losses(found)),
            "ladder": [_summary(other) for other in questions.ladder(ask)],
            "changes": [{"change": change.words, **_summary(change.plan)} for change in questions.changes(ask)],
        }
        echo_json({"answer": answer, **to_json(found), **others})
        return
    from nudge.cli import planview

    if explain:
        planview.show_formulas(found, answer)
    else:
        planview.show(found, answer, command=_command(recipe, options))


def _command(recipe: str, options: dict[str, Any]) -> str:
    """Return the command that plans this network, to type again with other options."""
    sizes = [word for setting in options["settings"] for word in ("--set", setting)]
    return shlex.join(
        ["nudge", "plan", recipe, *(("--params", options["params"]) if options["params"] else ()), *sizes]
    )


def _answer(ask: "Ask", *, budget: float | None, hours: float | None, counted: bool) -> str:
    """Return a sentence on what a budget or a time determines. `counted`: the number of GPUs was given."""
    from nudge.plan.questions import hours_of
    from nudge.util.formatting import compact

    machine = f"{ask.count} x {ask.device.title}"
    if budget is not None:
        rented = hours_of(budget, ask.count, ask.price)
        return f"${budget:,.6g} rents {machine} for {rented:,.3g} hours: about {compact(ask.tokens)} tokens"
    if hours is None:
        return ""
    if counted:
        return f"in {hours:,.6g} hours {machine} reads about {compact(ask.tokens)} tokens"
    return f"{machine} is the fewest that likely needs no more than {hours:,.6g} hours"


def _affordable(options: dict[str, Any], as_json: bool) -> None:
    from nudge.plan import questions

    names = ("hours", "gpu", "count", "price")
    plans = questions.affordable_plans(usd=options["budget"], **{name: options[name] for name in names})
    if as_json:
        echo_json([to_json(found) for found in plans])
        return
    from nudge.cli import plantables

    plantables.show_affordable(plans, usd=options["budget"], hours=options["hours"])


def _lecture(as_json: bool) -> None:
    from nudge.plan import lecture, published

    if as_json:
        tables = (
            ("costs", published.LECTURE_COSTS),
            ("corrections", published.CORRECTIONS),
            ("models", lecture.MODELS),
        )
        today = to_json(lecture.gpt2_today())
        echo_json({**{name: _rows_to_json(rows) for name, rows in tables}, "gpt2_today": today})
        return
    from nudge.cli import plantables

    plantables.show_lecture()


def _validate(as_json: bool) -> None:
    """Print how well the speed model predicts the published runs; exit with 1 if it misses the goal."""
    from nudge.plan import speed

    found = speed.validate()
    if as_json:
        rows = [
            {
                "run": asdict(row.run),
                "predicted": row.predicted,
                "predicted_by_strangers": row.predicted_by_other_codes,
                "error": row.error,
                "error_by_strangers": row.error_by_other_codes,
            }
            for row in found.rows
        ]
        goal = {
            "median_error": speed.MOST_MEDIAN_ERROR,
            "within": speed.WITHIN,
            "share_within": speed.LEAST_WITHIN,
            "holds": found.holds,
        }
        reached = {"median_error": found.median_error(), "share_within": found.share_within()}
        echo_json({"rows": rows, **reached, "goal": goal})
    else:
        from nudge.cli import plantables

        plantables.show_validation(found)
    sys.exit(0 if found.holds else 1)


def _calibrate(recipe: str, settings: tuple[str, ...], tokens: Any, as_json: bool) -> None:
    from nudge import config as configs
    from nudge import recipes
    from nudge.estimate.calibration import calibrate_in_process
    from nudge.plan.planner import make_ask
    from nudge.plan.planner import plan as planned

    tables = configs.parse_settings(settings)
    config = configs.override(recipes.recipe(recipe), tables)
    if tokens is not None:
        steps = planned(make_ask(recipe, settings=tables, tokens=tokens)).steps
        config = replace(config, train=replace(config.train, steps=steps, minutes=None))
    if not as_json:
        echo("measuring this machine: about 30 seconds, after its text is prepared", err=True)
    found = calibrate_in_process(config)
    if as_json:
        forecast = {name: getattr(found, name) for name in ("likely_s", "low_s", "high_s", "tokens_per_s")}
        echo_json({**forecast, **asdict(found)})
        return
    from nudge.cli import plantables

    plantables.show_calibration(found)


def to_json(found: "Plan") -> dict[str, Any]:
    """Return a plan as JSON values."""
    properties = ("fits", "tokens", "flops", "tokens_per_s", "tokens_per_parameter")
    values = {**asdict(found), **{name: getattr(found, name) for name in properties}}
    values["tokens_per_s"] = asdict(found.tokens_per_s)
    values["layout"] = {**asdict(found.layout), "needed_bytes": found.layout.needed_bytes, "fits": found.layout.fits}
    return values


def _summary(other: "Plan") -> dict[str, Any]:
    """Return a plan of the ladder or of the changes as JSON values."""
    return {
        "device": other.ask.device.name,
        "count": other.ask.count,
        "fits": other.fits,
        "needed_bytes": other.layout.needed_bytes,
        "hours": asdict(other.hours),
        "usd": asdict(other.usd) if other.usd else None,
    }


def _rows_to_json(rows: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]
