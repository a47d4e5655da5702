"""The results of a benchmark as plain values, for JSON, the tables of the command line, and the picture."""

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from nudge.bench import samples
from nudge.bench.runner import Absent, Contender, Event, Measured, Prepared
from nudge.bench.suites import Measure, Suite


@dataclass(slots=True)
class Found:
    """The results of one contender, round by round."""

    contender: Contender
    version: str = ""
    absent: str = ""
    peak_bytes: int = 0
    rounds: list[Measured] = field(default_factory=list)

    def figures(self, key: str) -> dict[int, float]:
        """Return one figure by round."""
        return {one.number: one.figures[key] for one in self.rounds}


@dataclass(slots=True)
class Report:
    """A suite and its results; `add` each event."""

    suite: Suite
    machine: Contender
    found: dict[str, Found] = field(init=False)

    def __post_init__(self) -> None:
        contenders = (self.machine, *self.suite.contenders)
        self.found = {contender.name: Found(contender) for contender in contenders}

    def add(self, event: Event) -> None:
        """Record an event."""
        found = self.found[event.contender.name]
        match event:
            case Prepared():
                found.version = event.version
            case Absent():
                found.absent = event.why
            case Measured():
                found.rounds.append(event)
                found.peak_bytes = max(found.peak_bytes, event.peak_bytes)

    def limits(self) -> dict[str, float]:
        """Return the machine's limits: the best figures of all its turns, and the operations in its fastest dtype."""
        rounds = self.found[self.machine.name].rounds
        best = {key: max(one.figures[key] for one in rounds) for key in (rounds[0].figures if rounds else ())}
        flops = [value for key, value in best.items() if key.endswith("_flops_per_s")]
        return {**best, "flops_per_s": max(flops)} if flops else best

    def measured(self) -> list[Found]:
        """Return the results of the contenders that were measured to the end."""
        return [found for c in self.suite.contenders if (found := self.found[c.name]).rounds and not found.absent]

    def comparisons(self) -> list[dict[str, Any]]:
        """Compare the speed of each of ours with each peer of its group, and of our best with the best peer."""
        return [
            comparison
            for measure in self.suite.measures
            for ours, peer in self._pairs(measure)
            if (comparison := _compare(measure, ours, peer))
        ]

    def _pairs(self, measure: Measure) -> Iterable[tuple[Found, Found]]:
        ours = [found for found in self.measured() if found.contender.ours]
        peers = [found for found in self.measured() if not found.contender.ours]
        pairs = [(a, b) for a in ours for b in peers if a.contender.group == b.contender.group]
        if len({found.contender.group for found in (*ours, *peers)}) > 1 and ours and peers:

            def speed(found: Found) -> float:
                return measure.speed(median(found.figures(measure.key).values()))

            best = (max(ours, key=speed), max(peers, key=speed))
            pairs += [best] if best not in pairs else []
        return pairs

    def as_dict(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Return everything as JSON values. `about`: the machine and the versions."""
        limits = self.limits()
        return {
            "benchmark": self.suite.name,
            "title": self.suite.title,
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **about,
            "settings": dict(self.suite.settings),
            "limits": limits,
            "limit_label": self.suite.limit_label,
            "measures": [
                {"key": m.key, "label": m.label, "digits": m.digits, "more_is_better": m.more_is_better}
                for m in self.suite.measures
            ],
            "also": [{"key": m.key, "label": m.label, "digits": m.digits} for m in self.suite.also],
            "contenders": [self._describe(self.found[c.name], limits) for c in self.suite.contenders],
            "comparisons": self.comparisons(),
        }

    def _describe(self, found: Found, limits: Mapping[str, float]) -> dict[str, Any]:
        contender = found.contender
        described: dict[str, Any] = {
            "name": contender.name,
            "ours": contender.ours,
            "group": contender.group,
            "absent": found.absent or None,
            "version": found.version,
        }
        if found.absent or not found.rounds:
            return described
        described |= {
            "peak_bytes": found.peak_bytes,
            "agreement": _agreement(self.measured()[0], found),
            "figures": {key: _figure(found, key) for key in found.rounds[0].figures},
            "output": [one.output for one in found.rounds] if found.rounds[0].output is not None else None,
        }
        if contender.limit and contender.limit[0] in limits:
            name, work = contender.limit
            measure = self.suite.measures[0]
            speed = measure.speed(described["figures"][measure.key]["median"])
            described |= {"limit": {"of": name, "work_per_token": work}, "share_of_limit": speed * work / limits[name]}
        return described


def _agreement(reference: Found, found: Found) -> float | None:
    """Return the share of the reference's output that is the same from the start; None if they are not comparable."""
    expected, got = reference.rounds[0].output, found.rounds[0].output
    if isinstance(expected, str):
        return float(got == expected)
    if not isinstance(expected, list) or not expected or not isinstance(expected[0], int):
        return None
    same = next((n for n, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), len(expected))
    return same / len(expected)


def _figure(found: Found, key: str) -> dict[str, Any]:
    values = found.figures(key)
    spread = samples.spread(list(values.values()))
    return {
        "median": spread.median,
        "low": spread.low,
        "high": spread.high,
        "rounds": [values[number] for number in sorted(values)],
    }


def _compare(measure: Measure, ours: Found, peer: Found) -> dict[str, Any] | None:
    """Compare the rounds in which both were measured; return None if there are none.

    A peer that misses the target counts with less time than it needs. If ours misses it, return None.
    """
    if any(one.figures.get("reached") == 0 for one in ours.rounds):
        return None
    our_figures, peer_figures = ours.figures(measure.key), peer.figures(measure.key)
    both = sorted(our_figures.keys() & peer_figures.keys())
    if not both:
        return None
    found = samples.ratio([measure.speed(our_figures[n]) for n in both], [measure.speed(peer_figures[n]) for n in both])
    return {
        "measure": measure.key,
        "ours": ours.contender.name,
        "peer": peer.contender.name,
        "ratio": found.ratio,
        "low": found.low,
        "high": found.high,
        "rounds": len(both),
    }
