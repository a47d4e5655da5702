"""Plan: what comes out of it. Time, money, memory and loss; the memory by part; other machines; other settings."""

import math
from collections.abc import Callable, Sequence

from nudge.plan.layout import Layout
from nudge.plan.losses import PublishedLoss, published_losses
from nudge.plan.planner import Interval, Plan
from nudge.plan.questions import changes, ladder
from nudge.studio import numbers
from nudge.studio.kit import bar, box, card, choice, legend, message, pairs, text
from nudge.studio.pages.plan_form import short
from nudge.studio.words import Words

_ACCENT, _BLUE = "var(--accent)", "var(--blue)"


def _mixed(color: str, percent: int) -> str:
    return f"color-mix(in srgb,{color} {percent}%,var(--surface))"


PARTS = (  # of a GPU's memory, and their colours: what grows with the micro-batch is orange, the state is blue
    ("activations", _ACCENT),
    ("logits", _mixed(_ACCENT, 55)),
    ("scratch", _mixed(_ACCENT, 25)),
    ("moments", _BLUE),
    ("weights", _mixed(_BLUE, 70)),
    ("gradients", _mixed(_BLUE, 45)),
    ("copies", _mixed(_BLUE, 25)),
    ("communication", "var(--ctl)"),
    ("reserved", "var(--muted-bar)"),
)
TIMES_H = ((1 / 60, "minute"), (1.0, "hour"), (24.0, "day"), (168.0, "week"), (730.0, "month"), (8766.0, "year"))
CENTURY_H = 876_600.0


# Four figures.


def figures(t: Words, plan: Plan) -> None:
    """The answer at a glance, each with how far it can be off and where it comes from."""
    with box("stats figures"):
        value, unit = numbers.span(plan.hours.likely, t.language)
        speed = t("plan.speed", n=_rate(plan, t), mfu=numbers.whole(100 * plan.speed.mfu))
        _figure(t("plan.time"), value, unit, times(plan.hours, t), speed)
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


def times(hours: Interval, t: Words) -> str:
    """17 – 35 hours"""
    (low, low_unit), (high, high_unit) = (numbers.span(value, t.language) for value in (hours.low, hours.high))
    if low_unit != high_unit:
        return f"{numbers.about(hours.low, t.language)} – {numbers.about(hours.high, t.language)}"
    return f"{low} – {high}{'' if t.language == 'ko' else ' '}{high_unit}"


def money(usd: Interval) -> str:
    """$5.87 – $11.93"""
    low, high = numbers.dollars(usd.low), numbers.dollars(usd.high)
    return low if low == high else f"{low} – {high}"


def _cost(t: Words, plan: Plan) -> None:
    price = plan.ask.price
    if plan.usd is None or price is None:
        own = plan.ask.device.name == "cpu"
        return _figure(t("plan.cost"), "–", "", t("plan.own_machine" if own else "plan.no_price"), "")
    rate = t("plan.rate", usd=f"{price.usd_per_hour:.2f}", date=price.date)
    _figure(t("plan.cost"), numbers.dollars(plan.usd.likely), "", money(plan.usd), rate)


def _memory(t: Words, layout: Layout, count_that_fits: int | None) -> None:
    needed, there = numbers.size(layout.needed_bytes), size_of(layout)
    if layout.fits:
        says, source = t("plan.fits", free=numbers.size(layout.free_bytes)), t("plan.peak")
    else:
        says = t("plan.fits_not")
        source = t("plan.fits_on", n=numbers.whole(count_that_fits)) if count_that_fits else t("plan.fits_never")
    same_unit = needed.split()[1] == there.split()[1]
    value = needed.split()[0] if same_unit else needed
    _figure(t("plan.memory"), value, t("plan.of", there=there), says, source, bad=not layout.fits)


def _loss(t: Words, known: Sequence[PublishedLoss]) -> None:
    if not known:
        return _figure(t("plan.loss"), "–", "", t("plan.no_loss"), t("plan.not_computed"))
    nearest = known[0]
    same = sorted(row.loss for row in known if row.data == nearest.data)
    span = (
        f"{same[0]:.2f}\N{NO-BREAK SPACE}–\N{NO-BREAK SPACE}{same[-1]:.2f}" if same[0] < same[-1] else f"{same[0]:.2f}"
    )
    source = t("plan.loss_source_only", source=nearest.source)
    if nearest.tokens:
        source = t("plan.loss_source", source=nearest.source, tokens=numbers.count(nearest.tokens, t.language))
    _figure(
        t("plan.loss"),
        f"{nearest.loss:.2f}",
        t("train.nats"),
        t("plan.published", data=nearest.data, span=span),
        source,
    )


def size_of(layout: Layout) -> str:
    """What the device has, as it is sold: 80 GB."""
    return numbers.size(layout.memory_bytes).replace(".0 ", " ")


# What it costs.


def costs(t: Words, plan: Plan) -> None:
    """The bill."""
    ask, language = plan.ask, t.language
    with card(t("plan.costs")):
        if plan.usd is not None and ask.price is not None:
            time = f"{numbers.whole(ask.count)} × {numbers.about(plan.hours.likely, language)}"
            bill = t("plan.bill", time=time, usd=f"{ask.price.usd_per_hour:.2f}")
            pairs((bill, numbers.dollars(plan.usd.likely)))
            box("hr", style="margin:12px 0")
            total = pairs((t("plan.total"), numbers.dollars(plan.usd.likely)), classes="total")
            total[0].classes("b")
            pairs((t("plan.interval"), money(plan.usd)), classes="ink3")
        else:
            text(t("plan.own_machine" if ask.device.name == "cpu" else "plan.no_price"), "s13 ink2")
        if ask.device.watts:
            box("hr", style="margin:12px 0")
            pairs((t("plan.energy"), t("plan.kwh", n=numbers.significant(plan.energy_kwh.likely, 3, grouped=True))))
            text(t("plan.energy_note"), "s12 ink3", style="margin-top:4px")


# Memory.


def memory(t: Words, plan: Plan) -> None:
    """What is in a GPU's memory at the peak, and which layouts there are."""
    layout = plan.layout
    tokens = f"{numbers.whole(layout.micro_batch)} × {numbers.whole(plan.ask.model.block_size)}"
    together = f"{numbers.size(layout.needed_bytes)} / {size_of(layout)}"

    def right() -> None:
        text(together, "s13 num m" + ("" if layout.fits else " bad"))

    whole = max(layout.memory_bytes, layout.needed_bytes)
    parts = [(name, part_bytes(layout, name), color) for name, color in PARTS]
    with card(t("plan.memory"), t("plan.memory_note", tokens=tokens), "memory", right=right):
        with box("parts", role="img", aria_label=together):
            for _, size, color in parts:
                if size:
                    bar(size / whole, style=f"background:{color}")
            if layout.fits:
                text(t("plan.free", free=numbers.size(layout.free_bytes)), "free s12 ink3")
            else:
                box("end", style=f"left:{100 * layout.memory_bytes / whole:.2f}%")
        _axis(whole)
        with box("parts-legend", tag="dl"):
            for name, size, color in parts:
                if size:
                    with box("k"):
                        box("sw square", style=f"background:{color}")
                        text(t(f"plan.memory_of.{name}"), "s13 ink2", tag="dt")
                        text(numbers.size(size), "s13 num m", tag="dd")
        if len(plan.layouts) > 1:
            _layouts(t, plan)


def part_bytes(layout: Layout, name: str) -> int:
    """One part of a GPU's memory, by its name in PARTS."""
    return layout.reserved_bytes if name == "reserved" else int(getattr(layout.memory, name))


def _axis(n_bytes: int) -> None:
    """Gigabytes below the bar, about six of them."""
    rough = n_bytes / 6e9
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * times for times in (1, 2, 5, 10) if unit * times >= rough)
    with box("axis num", aria_hidden="true"):
        for n in range(math.floor(n_bytes / 1e9 / step) + 1):
            share = n * step * 1e9 / n_bytes
            if share <= 0.96:
                text(f"{n * step:g}", style=f"left:{100 * share:.2f}%", classes="" if n else "first")
        text(numbers.size(n_bytes).replace(".0 ", " "), "last")


def _layouts(t: Words, plan: Plan) -> None:
    heads = ("layout", "micro_batch", "memory")
    with box("layouts", tag="table"):
        with box(tag="thead"), box(tag="tr"):
            for name in heads:
                text(t(f"plan.{name}"), tag="th", scope="col")
            text(t("plan.on_a_gpu"), tag="th", scope="col")
        with box(tag="tbody"):
            for layout in plan.layouts:
                with box("on" if layout is plan.layout else "", tag="tr"):
                    text(layout_name(t, layout), tag="td")
                    text(numbers.whole(layout.micro_batch), tag="td")
                    text(numbers.size(layout.needed_bytes), tag="td")
                    says = (
                        "chosen"
                        if layout is plan.layout and layout.fits
                        else "would_fit"
                        if layout.fits
                        else "fits_not"
                    )
                    with box(tag="td"):
                        kind = "tag a" if says == "chosen" else "" if layout.fits else "bad"
                        text(t(f"plan.{says}"), kind, tag="span")


def layout_name(t: Words, layout: Layout) -> str:
    """A layout in the person's words."""
    return t(f"plan.kind.{layout.kind}") + (t("plan.kind.recompute") if layout.recompute else "")


# Other machines.


class Ladder:
    """The same run on other machines, by time or by cost, both on a log scale."""

    def __init__(self, t: Words, plan: Plan, of: str, turned: Callable[[str], None]) -> None:
        self.t, self.plan, self.turned = t, plan, turned
        self.plans = ladder(plan.ask)

        def right() -> None:
            choice({"time": t("plan.time"), "cost": t("plan.cost")}, of, self._turn, label=t("plan.ladder_by"))

        with card(t("plan.ladder"), t("plan.ladder_note"), "ladder", right=right):
            self.rows = box("rows", role="table", aria_label=t("plan.ladder"))
            with box("hs foot"):
                legend(
                    (t("plan.rented"), "var(--blue)", "square"),
                    (t("plan.owned"), "var(--muted-bar)", "square"),
                    (t("plan.yours"), "var(--accent)", "square"),
                    (t("plan.interval"), "var(--ink)", "line"),
                )
                box("gr")
                others = {other.ask.dtype for other in self.plans} - {plan.ask.dtype}
                text(t("plan.other_dtype", dtype=others.pop()) if others else "", "s12 ink3")
        self._fill(of)

    def _turn(self, of: str) -> None:
        self.turned(of)
        self._fill(of)

    def _fill(self, of: str) -> None:
        t = self.t
        scale = _Scale(t, [value for value in (_of(plan, of) for plan in self.plans) if value], of)
        self.rows.clear()
        with self.rows:
            with box("rung head", role="row"):
                text(t("plan.machine"), role="columnheader")
                with box("track", role="columnheader", aria_label=t(f"plan.{of}")):
                    scale.labels()
                for name in ("", "tokens_s", "gpu_hour", "cost" if of == "time" else "time"):
                    text(t(f"plan.{name}") if name else "", "right nw" if name else "", role="columnheader")
            for plan in self.plans:
                self._line(plan, of, scale)

    def _line(self, plan: Plan, of: str, scale: "_Scale") -> None:
        t, ask, here = self.t, plan.ask, self.plan.ask
        mine = (ask.device, ask.count) == (here.device, here.count)
        kind = "mine" if mine else "rented" if ask.price else "owned"
        time = numbers.about(plan.hours.likely, t.language)
        cost = numbers.dollars(plan.usd.likely) if plan.usd else "–"
        with box(f"rung {kind}", role="row"):
            with box("name", role="cell"):
                name = f"{numbers.whole(ask.count)} × {short(ask.device)}" + ("" if ask.dtype == here.dtype else " *")
                text(name, "cut", title=ask.device.title)
                if not plan.fits:
                    text(t("plan.fits_not"), "s12 bad")
            with box("track", role="cell"):
                scale.lines()
                scale.bar(_of(plan, of))
            text(time if of == "time" else cost, "num nw value", role="cell")
            text(_rate(plan, t), "num right ink2", role="cell")
            text(f"${ask.price.usd_per_hour:.2f}" if ask.price else "–", "num right ink2", role="cell")
            text(cost if of == "time" else time, "num right nw value", role="cell")


def _rate(plan: Plan, t: Words) -> str:
    """Tokens per second, of which a processor may not read one."""
    rate = plan.tokens_per_s.likely
    return numbers.count(rate, t.language) if rate >= 10 else numbers.significant(rate, 2)


def _of(plan: Plan, what: str) -> Interval | None:
    return plan.hours if what == "time" else plan.usd


class _Scale:
    """A log scale over all that is drawn on it."""

    def __init__(self, t: Words, values: Sequence[Interval], of: str) -> None:
        self.t = t
        low, high = min((v.low for v in values), default=1.0), max((v.high for v in values), default=1.0)
        low = max(low, 1e-9)
        self.start, self.end = math.log(low / 2), math.log(max(high, low) * 1.2)
        marks = [(hours, t(f"plan.ticks.{name}")) for hours, name in TIMES_H]
        if of == "time":
            marks += [(CENTURY_H / 10, t("plan.ticks.decade")), (CENTURY_H, t("plan.ticks.century"))]
        else:
            marks = [(10.0**n, numbers.dollars(10.0**n).removesuffix(".00")) for n in range(-2, 13)]
        self.ticks = [(value, label) for value, label in marks if self.start <= math.log(value) <= self.end]

    def at(self, value: float) -> float:
        """Where on the scale, in percent of its width."""
        return min(100.0, max(0.0, 100 * (math.log(max(value, 1e-9)) - self.start) / (self.end - self.start)))

    def labels(self) -> None:
        """As many as have room; on a narrow page fewer."""
        last = last_wide = -100.0
        for value, label in self.ticks:
            here = self.at(value)
            if here - last >= 13:  # else they would touch
                wide = here - last_wide >= 26
                text(label, "tick nw" if wide else "tick nw dense", style=f"left:{here:.2f}%")
                last, last_wide = here, here if wide else last_wide

    def lines(self) -> None:
        for value, _ in self.ticks:
            box("gridline", style=f"left:{self.at(value):.2f}%")

    def bar(self, value: Interval | None) -> None:
        """As long as what is likely, and a line over all that four in five runs would take."""
        if value is None:
            return
        bar(self.at(value.likely) / 100, "ladder-bar")
        low, high = self.at(value.low), self.at(value.high)
        box("whisker", style=f"left:{low:.2f}%;width:{high - low:.2f}%")


# Other settings.


def one_change(t: Words, plan: Plan) -> None:
    """The same plan with one thing changed."""
    with card(t("plan.changes"), t("plan.changes_note")), box(tag="table"):
        with box(tag="thead"), box(tag="tr"):
            for name in ("change", "memory", "time", "cost"):
                text(t(f"plan.{name}"), tag="th", scope="col")
        with box(tag="tbody"):
            for _, other in changes(plan.ask):
                with box(tag="tr"):
                    text(_changed(t, plan, other), "m", tag="th", scope="row")
                    needed = numbers.size(other.layout.needed_bytes)
                    says = needed if other.fits else f"{needed} · {t('plan.fits_not')}"
                    text(says, "" if other.fits else "bad", tag="td")
                    text(numbers.about(other.hours.likely, t.language), tag="td")
                    text(numbers.dollars(other.usd.likely) if other.usd else "–", tag="td")


def _changed(t: Words, plan: Plan, other: Plan) -> str:
    """Which one thing it is, in the person's words."""
    now, then = plan.layout, other.layout
    if other.tokens != plan.tokens:
        return t("plan.to.tokens", n=numbers.count(other.tokens, t.language))
    if other.ask.count != plan.ask.count:
        return t("plan.to.count", n=numbers.whole(other.ask.count))
    if then.kind != now.kind:
        return t(f"plan.to.{then.kind}")
    if then.recompute != now.recompute:
        return t("plan.to.recompute" if then.recompute else "plan.to.keep")
    return t("plan.to.micro_batch", n=numbers.whole(then.micro_batch))


# What happens meanwhile.


def on_the_way(t: Words, plan: Plan) -> None:
    """One update, and what breaks."""
    failures, traffic = plan.failures, plan.traffic
    saves = numbers.duration(failures.save_every_s, t.language)
    rows: list[tuple[str, object]] = [
        (t("plan.update"), numbers.duration(plan.step_s.likely, t.language)),
        (t("plan.passes"), f"{numbers.whole(plan.layout.passes)}"),
    ]
    if traffic:
        rows.append((t(f"plan.traffic.{traffic.link.split()[0]}"), numbers.duration(traffic.seconds, t.language)))
        waited = numbers.duration(traffic.exposed_s, t.language) if traffic.exposed_s else t("plan.hidden")
        rows.append((t("plan.waiting"), waited))
    rows += [
        (t("plan.failures"), numbers.significant(failures.expected, 2)),
        (t("plan.checkpoint"), numbers.duration(failures.checkpoint_s, t.language)),
        (t("plan.save_every"), saves if failures.save_every_s < 3600 * plan.hours.likely else t("plan.at_the_end")),
    ]
    with card(t("plan.on_the_way"), t("plan.failures_note")), box("on-the-way", tag="dl"):
        for name, value in rows:
            with box():
                text(name, "s12 ink3", tag="dt")
                text(value, "m num", tag="dd")
