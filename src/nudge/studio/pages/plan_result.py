"""Plan: what comes out of it. Time, money, memory and loss; the bill; what one other setting would change."""

from collections.abc import Sequence

from nudge.plan.layout import Layout
from nudge.plan.losses import PublishedLoss, published_losses
from nudge.plan.planner import Plan
from nudge.plan.questions import changes
from nudge.plan.tables import NONE, cells
from nudge.studio.components import box, card, message, pairs, text
from nudge.studio.words import Words
from nudge.util import formatting


def multiplied(words: str) -> str:
    """8 x A100 -> 8 × A100: the data is written as it is typed, the studio shows one sign everywhere."""
    return words.replace(" x ", " × ")


# Four figures.


def figures(t: Words, plan: Plan) -> None:
    """The answer at a glance, each with how far it can be off and where it comes from."""
    shown = cells(plan, t.language)
    with box("stats figures"):
        value, unit = formatting.span(plan.hours.likely, t.language)
        speed = t("plan.speed", n=shown.tokens_per_s, mfu=formatting.whole(100 * plan.speed.mfu))
        _figure(t("plan.time"), value, unit, shown.time_interval, speed)
        _cost(t, plan)
        _memory(t, plan.layout, plan.count_that_fits)
        _loss(t, published_losses(plan))
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


def _cost(t: Words, plan: Plan) -> None:
    price = plan.ask.price
    if plan.usd is None or price is None:
        own = plan.ask.device.name == "cpu"
        return _figure(t("plan.cost"), NONE, "", t("plan.own_machine" if own else "plan.no_price"), "")
    rate = t("plan.rate", usd=f"{price.usd_per_hour:.2f}", date=price.date)
    shown = cells(plan, t.language)
    _figure(t("plan.cost"), shown.cost, "", shown.cost_interval, rate)


def _memory(t: Words, layout: Layout, count_that_fits: int | None) -> None:
    needed, there = formatting.size(layout.needed_bytes), formatting.capacity(layout.memory_bytes)
    if layout.fits:
        says, source = t("plan.fits", free=formatting.size(layout.free_bytes)), t("plan.peak")
    else:
        says = t("plan.fits_not")
        source = t("plan.fits_on", n=formatting.whole(count_that_fits)) if count_that_fits else t("plan.fits_never")
    same_unit = needed.split()[1] == there.split()[1]
    value = needed.split()[0] if same_unit else needed
    _figure(t("plan.memory"), value, t("plan.of", there=there), says, source, bad=not layout.fits)


def _loss(t: Words, known: Sequence[PublishedLoss]) -> None:
    if not known:
        return _figure(t("plan.loss"), NONE, "", t("plan.no_loss"), t("plan.not_computed"))
    nearest = known[0]
    same = sorted(row.loss for row in known if row.data == nearest.data)
    span = (
        f"{same[0]:.2f}\N{NO-BREAK SPACE}–\N{NO-BREAK SPACE}{same[-1]:.2f}" if same[0] < same[-1] else f"{same[0]:.2f}"
    )
    source = t("plan.loss_source_only", source=nearest.source)
    if nearest.tokens:
        source = t("plan.loss_source", source=nearest.source, tokens=formatting.count(nearest.tokens, t.language))
    _figure(
        t("plan.loss"),
        f"{nearest.loss:.2f}",
        t("train.nats"),
        t("plan.published", data=nearest.data, span=span),
        source,
    )


# What it costs.


def costs(t: Words, plan: Plan) -> None:
    """The bill."""
    ask, shown = plan.ask, cells(plan, t.language)
    with card(t("plan.costs")):
        if plan.usd is not None and ask.price is not None:
            time = f"{formatting.whole(ask.count)} × {shown.time}"
            bill = t("plan.bill", time=time, usd=f"{ask.price.usd_per_hour:.2f}")
            pairs((bill, shown.cost))
            box("hr", style="margin:12px 0")
            total = pairs((t("plan.total"), shown.cost), classes="total")
            total[0].classes("b")
            pairs((t("plan.interval"), shown.cost_interval), classes="ink3")
        else:
            text(t("plan.own_machine" if ask.device.name == "cpu" else "plan.no_price"), "s13 ink2")
        if ask.device.watts:
            box("hr", style="margin:12px 0")
            pairs((t("plan.energy"), t("plan.kwh", n=formatting.significant(plan.energy_kwh.likely, 3, grouped=True))))
            text(t("plan.energy_note"), "s12 ink3", style="margin-top:4px")


# Other settings.


def one_change(t: Words, plan: Plan) -> None:
    """The same plan with one thing changed."""
    with card(t("plan.changes"), t("plan.changes_note")), box(tag="table"):
        with box(tag="thead"), box(tag="tr"):
            for name in ("change", "memory", "time", "cost"):
                text(t(f"plan.{name}"), tag="th", scope="col")
        with box(tag="tbody"):
            for change in changes(plan.ask):
                shown, fits = cells(change.plan, t.language), change.plan.fits
                n = formatting.count(change.n, t.language) if change.name == "tokens" else formatting.whole(change.n)
                with box(tag="tr"):
                    text(t(f"plan.to.{change.name}", n=n), "m", tag="th", scope="row")
                    says = shown.memory if fits else f"{shown.memory} · {t('plan.fits_not')}"
                    text(says, "" if fits else "bad", tag="td")
                    text(shown.time, tag="td")
                    text(shown.cost, tag="td")


# What happens meanwhile.


def on_the_way(t: Words, plan: Plan) -> None:
    """One update, and what breaks."""
    failures, traffic = plan.failures, plan.traffic
    saves = formatting.duration(failures.save_every_s, t.language)
    rows: list[tuple[str, object]] = [
        (t("plan.update"), formatting.duration(plan.step_s.likely, t.language)),
        (t("plan.passes"), f"{formatting.whole(plan.layout.passes)}"),
    ]
    if traffic:
        rows.append((t(f"plan.traffic.{traffic.link.split()[0]}"), formatting.duration(traffic.seconds, t.language)))
        waited = formatting.duration(traffic.exposed_s, t.language) if traffic.exposed_s else t("plan.hidden")
        rows.append((t("plan.waiting"), waited))
    rows += [
        (t("plan.failures"), formatting.significant(failures.expected, 2)),
        (t("plan.checkpoint"), formatting.duration(failures.checkpoint_s, t.language)),
        (t("plan.save_every"), saves if failures.save_every_s < 3600 * plan.hours.likely else t("plan.at_the_end")),
    ]
    with card(t("plan.on_the_way"), t("plan.failures_note")), box("on-the-way", tag="dl"):
        for name, value in rows:
            with box():
                text(name, "s12 ink3", tag="dt")
                text(value, "m num", tag="dd")
