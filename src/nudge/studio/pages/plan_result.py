"""Plan: the result: time, money, memory and loss; the bill; and the effect of one other setting."""

from nudge.plan.losses import published_losses
from nudge.plan.planner import Plan
from nudge.plan.questions import changes
from nudge.plan.tables import NONE, cells
from nudge.studio.components import box, card, figure, message, pairs, table, text
from nudge.studio.words import Words
from nudge.util import formatting


def with_multiplication_sign(words: str) -> str:
    """Replace x by the multiplication sign: 8 x A100 -> 8 × A100."""
    return words.replace(" x ", " × ")


def figures(t: Words, plan: Plan) -> None:
    """Add the main figures, each with its uncertainty and its source."""
    shown = cells(plan, t.language)
    with box("stats figures"):
        value, unit = formatting.span(plan.hours.likely, t.language)
        speed = t("plan.speed", n=shown.tokens_per_s, mfu=formatting.whole(100 * plan.speed.mfu))
        _figure(t("plan.time"), value, unit, shown.time_interval, speed)
        _cost(t, plan)
        _memory(t, plan)
        _loss(t, plan)
    if plan.is_extrapolated:
        message(t("plan.extrapolated"))


def _figure(name: str, value: str, unit: str, interval: str, source: str, *, bad: bool = False) -> None:
    with box("stat"):
        text(name, "eyebrow")
        with box("v"):
            text(value, "bad" if bad else "", tag="span")
            text(unit, "u", tag="span")
        text(interval, "s13 interval" + (" bad" if bad else ""))
        text(source, "s12 ink3")


def _no_price(t: Words, plan: Plan) -> str:
    return t("plan.own_machine" if plan.ask.device.name == "cpu" else "plan.no_price")


def _cost(t: Words, plan: Plan) -> None:
    price, shown = plan.ask.price, cells(plan, t.language)
    if plan.usd is None or price is None:
        return _figure(t("plan.cost"), NONE, "", _no_price(t, plan), "")
    rate = t("plan.rate", usd=f"{price.usd_per_hour:.2f}", date=price.date)
    _figure(t("plan.cost"), shown.cost, "", shown.cost_interval, rate)


def _memory(t: Words, plan: Plan) -> None:
    layout, enough = plan.layout, plan.count_that_fits
    needed, there = formatting.size(layout.needed_bytes), formatting.capacity(layout.memory_bytes)
    if layout.fits:
        interval, source = t("plan.fits", free=formatting.size(layout.free_bytes)), t("plan.peak")
    else:
        interval, source = t("plan.fits_not"), t("plan.fits_on", n=enough) if enough else t("plan.fits_never")
    value, unit = needed.split()
    value = value if unit == there.split()[1] else needed
    _figure(t("plan.memory"), value, t("plan.of", there=there), interval, source, bad=not layout.fits)


def _loss(t: Words, plan: Plan) -> None:
    known = published_losses(plan)
    if not known:
        return _figure(t("plan.loss"), NONE, "", t("plan.no_loss"), t("plan.not_computed"))
    nearest = known[0]
    same = [row.loss for row in known if row.data == nearest.data]
    ends = dict.fromkeys(f"{loss:.2f}" for loss in (min(same), max(same)))
    span = "\N{NO-BREAK SPACE}–\N{NO-BREAK SPACE}".join(ends)
    source = t("plan.loss_source_only", source=nearest.source)
    if nearest.tokens:
        source = t("plan.loss_source", source=nearest.source, tokens=formatting.count(nearest.tokens, t.language))
    published = t("plan.published", data=nearest.data, span=span)
    _figure(t("plan.loss"), f"{nearest.loss:.2f}", t("train.nats"), published, source)


def costs(t: Words, plan: Plan) -> None:
    """Add the bill."""
    ask, shown = plan.ask, cells(plan, t.language)
    with card(t("plan.costs")):
        if plan.usd is not None and ask.price is not None:
            time = f"{formatting.whole(ask.count)} × {shown.time}"
            pairs((t("plan.bill", time=time, usd=f"{ask.price.usd_per_hour:.2f}"), shown.cost))
            box("hr", style="margin:12px 0")
            total = pairs((t("plan.total"), shown.cost), classes="total")
            total[0].classes("b")
            pairs((t("plan.interval"), shown.cost_interval), classes="ink3")
        else:
            text(_no_price(t, plan), "s13 ink2")
        if ask.device.watts:
            box("hr", style="margin:12px 0")
            pairs((t("plan.energy"), t("plan.kwh", n=formatting.significant(plan.energy_kwh.likely, 3, grouped=True))))
            text(t("plan.energy_note"), "s12 ink3", style="margin-top:4px")


def one_change(t: Words, plan: Plan) -> None:
    """Add the same plan with one setting changed."""
    heads = (t(f"plan.{name}") for name in ("change", "memory", "time", "cost"))
    with card(t("plan.changes"), t("plan.changes_note")), table(*heads):
        for change in changes(plan.ask):
            shown, fits = cells(change.plan, t.language), change.plan.fits
            n = formatting.count(change.n, t.language) if change.name == "tokens" else formatting.whole(change.n)
            memory = shown.memory if fits else f"{shown.memory} · {t('plan.fits_not')}"
            with box(tag="tr"):
                text(t(f"plan.to.{change.name}", n=n), "m", tag="th", scope="row")
                text(memory, "" if fits else "bad", tag="td")
                text(shown.time, tag="td")
                text(shown.cost, tag="td")


def progress_card(t: Words, plan: Plan) -> None:
    """Add the card about the run's progress: one update, traffic, and failures."""
    failures, traffic, seconds = plan.failures, plan.traffic, formatting.duration
    late = failures.save_every_s >= 3600 * plan.hours.likely
    rows = {"update": seconds(plan.step_s.likely, t.language), "passes": formatting.whole(plan.layout.passes)}
    if traffic:
        rows[f"traffic.{traffic.link.split()[0]}"] = seconds(traffic.seconds, t.language)
        rows["waiting"] = seconds(traffic.exposed_s, t.language) if traffic.exposed_s else t("plan.hidden")
    rows |= {
        "failures": formatting.significant(failures.expected, 2),
        "checkpoint": seconds(failures.checkpoint_s, t.language),
        "save_every": t("plan.at_the_end") if late else seconds(failures.save_every_s, t.language),
    }
    with card(t("plan.on_the_way"), t("plan.failures_note")), box("on-the-way", tag="dl"):
        for name, value in rows.items():
            figure(t(f"plan.{name}"), value, "m num")
