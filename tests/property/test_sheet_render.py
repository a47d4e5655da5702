"""Any sheet that reads is drawn whole, or refused in one line: no text lost, cut, under 9 pt or over other text."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sheets import Character, characters, crossed, overlaps, pen_font

from nudge.errors import SheetError
from nudge.sheet.inline import ICONS
from nudge.sheet.page import Sheet, to_json
from nudge.sheet.render import Page, Place, render
from nudge.sheet.source import read

WORDS = [
    "a",
    "of",
    "loss",
    "model",
    "token",
    "layer",
    "train",
    "update",
    "attention",
    "vocabulary",
    "parameters",
    "8,192",
    "3.91",
    "2e-4",
    "±0.3%",
    "학습",
    "모델",
    "손실이",
    "데이터를",
    "검증",
    "토큰화",
    "파라미터는",
    "gradient",
    "descent",
    "(GPT-2)",
    "ln(V)",
    "k=v",
    "x,y:",
    "24시간",
    "yes/no",
    "“quoted”",
    "it's",
    "e.g.",
    "100%",
]
LONG = (
    "pneumonoultramicroscopicsilicovolcanoconi",
    "가나다라마바사아자차카타파하가나다라마바사아자차카타파하가나다라마바사아자차카타파하",
)
COLORS = ("ink", "blue", "green", "orange", "purple", "red", "gray", "yellow")
EMOJI = tuple(ICONS)
PARTS = {"alt": "else", "par": "and", "critical": "option"}


@pytest.fixture(autouse=True, scope="module")
def _pen() -> None:
    pen_font()


class Writer:
    """Writes sheets that read; how long they are is chance, so some of them do not fit."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.notes: list[str] = []  # the footnotes of the region
        self.n_notes = 0  # of the sheet

    def often(self, share: float) -> bool:
        return self.random.random() < share

    def count(self, least: int, most: int) -> int:
        """Small numbers more often than large ones."""
        return least + int((most - least + 1) * self.random.random() ** 2)

    def words(self, least: int = 1, most: int = 5) -> str:
        return " ".join(
            self.random.choice(LONG if self.often(0.004) else WORDS) for _ in range(self.count(least, most))
        )

    def line(self, least: int = 1, most: int = 8, *, notes: bool = False) -> str:
        """Inline markdown."""
        parts = []
        for _ in range(self.count(1, 3)):
            words = self.words(least, max(least, most // 2))
            color = self.random.choice(COLORS)
            styled = [words] * 6 + [f"**{words}**", f"=={words}==", f"=={color}:{words}==", f"`{words}`"]
            styled += [f"**=={words}==**", self.random.choice(EMOJI), f"{words}<br>{words}"]
            glue = bool(parts) and self.often(0.1) and not parts[-1].endswith("*")
            parts.append(words if glue else self.random.choice(styled))
            if glue:
                parts[-2:] = ["".join(parts[-2:])]
            if notes and self.often(0.05) and len(self.notes) < 9:
                self.n_notes += 1
                mark = str(self.n_notes)
                self.notes.append(f"[^{mark}]: {self.line()}")
                parts[-1] += f"[^{mark}]"
        return " ".join(parts)

    def color(self, key: str = "color") -> str:
        return f", {key}: {self.random.choice(COLORS)}" if self.often(0.3) else ""

    # --- blocks

    def paragraph(self) -> str:
        return self.line(3, 30, notes=True)

    def heading(self) -> str:
        return f"### {self.line(1, 5, notes=True)}"

    def bullets(self, depth: int = 0) -> str:
        sign = self.random.choice(["-", "-", "1."])
        lines = []
        for _ in range(self.count(1, 5 if depth == 0 else 2)):
            box = self.random.choice(["", "", "", "[x] ", "[ ] "])
            lines.append(f"{sign} {box}{self.line(1, 10, notes=True)}")
            if depth < 3 and self.often(0.2):
                lines.append(re.sub("^", "   ", self.bullets(depth + 1), flags=re.M))
        return "\n".join(lines)

    def keys(self) -> str:
        color = self.random.choice(["", "blue:", "green:", "red:"])
        return "\n".join(f"- =={color}{self.words(1, 2)}== {self.line(1, 8)}" for _ in range(self.count(1, 5)))

    def table(self) -> str:
        n_columns = self.count(1, 8)
        signs = ["---", ":--", "--:", ":-:"]
        cell = lambda: "" if self.often(0.1) else self.line(1, 3, notes=True)  # noqa: E731
        rows = [[self.words(1, 2) for _ in range(n_columns)], [self.random.choice(signs) for _ in range(n_columns)]]
        rows += [[cell() for _ in range(n_columns)] for _ in range(self.count(0, 8))]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def quote(self) -> str:
        note = f"\n> → {self.line(2, 14)}" if self.often(0.5) else ""
        return f"> {self.line(2, 16)}{note}"

    def note(self) -> str:
        return f"```note {self.random.choice(['', *COLORS])}\n{self.line(2, 20)}\n```"

    def code(self) -> str:
        makes: list[Callable[[], str]] = [lambda: "", lambda: " " * self.count(0, 30) + self.words(1, 8), self.words]
        makes += [lambda: self.words(10, 30)] if self.often(0.1) else []
        return "```\n" + "\n".join(self.random.choice(makes)() for _ in range(self.count(1, 9))) + "\n```"

    def knobs(self) -> str:
        value = lambda: self.random.choice([-1, 0, 1, round(self.random.uniform(-1, 1), 3)])  # noqa: E731
        one = lambda: f'- {{label: "{self.words(1, 3)}", value: {value()}{self.color()}}}'  # noqa: E731
        return "```knobs\n" + "\n".join(one() for _ in range(self.count(1, 12))) + "\n```"

    def number(self) -> float:
        r = self.random
        scale = r.choice([1.0, 1.0, 1.0, 100.0, 1e6, 1e11, 1e-3, 1e-6, 1e-9])
        return r.choice([0.0, scale, -scale, r.uniform(0, scale), r.uniform(-scale, scale), round(r.uniform(0, 9))])

    def chart(self) -> str:
        curves, flags = [], ["dots", "thin", "schematic"]
        xs = sorted(self.number() for _ in range(2))
        for _ in range(self.count(1, 7)):
            n_points = self.random.choice([1, 2, 3, 10, 30]) if self.often(0.95) else 2000
            step = (xs[1] - xs[0]) / n_points
            level, size = self.number(), self.number() * self.random.choice([0, 1])
            points = [[xs[0] + i * step, level + size * self.random.random()] for i in range(n_points)]
            flag = "".join(f", {flag}: true" for flag in flags if self.often(0.25))
            label = "" if self.often(0.1) else self.words(1, 3)
            curves.append(f'- {{label: "{label}", points: {points}{flag}{self.color()}}}')
        marks = []
        for _ in range(self.count(0, 5)):
            at = f", x: {self.random.uniform(*xs)}" if self.often(0.6) else ""
            marks.append(f'- {{y: {self.number()}, label: "{self.words(1, 4)}"{at}{self.color()}}}')
        rest = f'\ncaption: "{self.line(2, 12)}"' if self.often(0.3) else ""
        rest += f"\nheight: {self.random.choice([4, 5, 8, 14, 20])}" if self.often(0.6) else ""
        labels = f'x: "{self.line(1, 2)}"\ny: "{self.line(1, 2)}"\n'
        both = "curves:\n" + "\n".join(curves) + ("\nmarks:\n" + "\n".join(marks) if marks else "")
        return f"```chart\n{labels}{both}{rest}\n```"

    def flow(self) -> str:
        n_nodes = self.count(1, 15)
        shapes = [*(['["{}"]'] * 4), '("{}")', '(("{}"))', '{{"{}"}}', '(["{}"])', '[["{}"]]', '[("{}")]', '((("{}")))']
        shapes += ['{{{{"{}"}}}}', '[/"{}"/]', '[\\"{}"\\]', '[/"{}"\\]', '[\\"{}"/]', '>"{}"]']
        colored = lambda: f":::{self.random.choice(COLORS)}" if self.often(0.2) else ""  # noqa: E731
        lines = [f"flowchart {self.random.choice(['LR', 'TB', 'TD', 'RL', 'BT'])}"]
        n_open = 0
        for i in range(n_nodes):
            if n_open < 3 and self.often(0.15):
                lines.append(f'subgraph g{i} ["{self.line(1, 4)}"]')
                n_open += 1
            lines.append(f"n{i}{self.random.choice(shapes).format(self.line(1, 4))}{colored()}")
            if n_open and self.often(0.3):
                lines.append("end")
                n_open -= 1
        lines += ["end"] * n_open
        arrows = ["-->", "-->", "-->", "---", "-.->", "==>", "===", "<-->", "x--x", "o--o", "--o", "---->", "~~~"]
        tree = [(self.random.randrange(max(0, i - 3), i), i) for i in range(1, n_nodes)]
        more = [(self.random.randrange(n_nodes), self.random.randrange(n_nodes)) for _ in range(self.count(0, 5))]
        for start, end in tree + more:
            arrow = self.random.choice(arrows)
            label = f'|"{self.words(1, 3)}"|' if self.often(0.3) and arrow != "~~~" else ""
            lines.append(f"n{start} {arrow}{label} n{end}")
        return "```mermaid\n" + "\n".join(lines) + "\n```"

    def mindmap(self) -> str:
        lines = ["mindmap", f'  (("{self.line(1, 4)}"))']
        for _ in range(self.count(0, 7)):
            lines.append(f'    ["{self.line(1, 4)}"]')
            lines += [f'      ["{self.line(1, 5)}"]' for _ in range(self.count(0, 5))]
        return "```mermaid\n" + "\n".join(lines) + "\n```"

    def sequence(self) -> str:
        names = [f"p{i}" for i in range(self.count(1, 6))]
        lines = ["sequenceDiagram"] + [f"participant {name} as {self.line(1, 2)}" for name in names]
        lines += ["autonumber"] if self.often(0.2) else []
        one = lambda: self.random.choice(names)  # noqa: E731
        arrows = ["->>", "->>", "-->>", "->", "-x", "--)", "<<->>", "->>+"]
        message = lambda: f"{one()}{self.random.choice(arrows)}{one()}: {self.line(1, 5)}"  # noqa: E731
        opened: list[str] = []
        for _ in range(self.count(1, 9)):
            if self.often(0.2):
                opened.append(self.random.choice(["loop", "alt", "opt", "par", "critical", "break", "rect"]))
                lines.append(f"{opened[-1]} {self.line(1, 4)}")
            lines.append(message())
            if self.often(0.3):
                places = [f"over {one()},{one()}", f"over {one()}", f"left of {one()}", f"right of {one()}"]
                lines.append(f"Note {self.random.choice(places)}: {self.line(1, 5)}")
            if opened and opened[-1] in PARTS and self.often(0.4):
                lines += [f"{PARTS[opened[-1]]} {self.line(1, 4)}", message()]
            if opened and self.often(0.3):
                lines.append("end")
                opened.pop()
        return "```mermaid\n" + "\n".join(lines + ["end"] * len(opened)) + "\n```"

    def columns(self) -> str:
        n_columns = self.count(2, 4)
        widths = [str(self.random.choice([1, 1, 1.5, 2.37, 0.6])) for _ in range(n_columns)]
        parts = ["\n\n".join(self.block() for _ in range(self.count(1, 2))) for _ in range(n_columns)]
        return f"<!-- columns {' '.join(widths)} -->\n\n" + "\n\n<!-- next -->\n\n".join(parts) + "\n\n<!-- end -->"

    def block(self) -> str:
        light = [self.paragraph, self.heading, self.bullets, self.keys, self.table, self.quote, self.note]
        heavy = [self.code, self.knobs, self.chart, self.flow, self.mindmap, self.sequence]
        return self.random.choice(light + heavy)()

    # --- the page

    def sheet(self) -> str:
        n_bands = self.count(1, 5)
        title = self.random.choice([4, 6, 8, 10, 15, 60])
        cuts = sorted(self.random.sample(range(1, 100 - title), n_bands - 1)) if n_bands > 1 else []
        heights = [high - low for low, high in zip([0, *cuts], [*cuts, 100 - title], strict=True)]
        rows, names = [], []
        for i, percent in enumerate(heights):
            row = [f"r{i}-{j}" for j in range(self.count(1, 3 if percent < 15 else 5))]
            names += [(name, percent / len(row)) for name in row]
            width = lambda: self.random.choice(["", "", "", "*1.5", "*2.13"])  # noqa: E731
            rows.append(f"{percent}% " + " | ".join(name + width() for name in row))
        rows.insert(self.random.choice([0, 0, 0, len(rows)]), f"{title}% title")
        regions = [self.region(name, share) for name, share in names]
        return f"---\n{self.front()}\n---\n```layout\n" + "\n".join(rows) + "\n```\n" + "\n\n".join(regions) + "\n"

    def front(self) -> str:
        optional = [
            f'over: "{self.words(1, 4)}"',
            f'subtitle: "{self.words(1, 6)}"',
            f'corner: "{self.line(1, 4)}"',
            "paper: a4-landscape",
            f"language: {self.random.choice(['ko', 'en'])}",
            f"size: {self.random.choice([10, 11, 13, 13.5, 16, 20])}",
            "legend: {" + ", ".join(f'{one}: "{self.words(1, 2)}"' for one in COLORS[: self.count(1, 8)]) + "}",
        ]
        return "\n".join([f'title: "{self.words(1, 6)}"', *(one for one in optional if self.often(0.5))])

    def region(self, name: str, percent: float) -> str:
        self.notes = []
        icon = f"{self.random.choice(EMOJI)} " if self.often(0.5) else ""
        comment = f"<!-- {name}: {self.random.choice(COLORS)}{self.random.choice(['', ' strong'])} -->"
        blocks = [
            self.columns() if self.often(0.15) else self.block() for _ in range(self.count(0, 1 + int(percent / 5)))
        ]
        # a remark between them keeps two lists apart
        return "\n\n".join(
            [f"## {icon}{self.words(1, 3)} {comment}", *"\n\n<!-- . -->\n\n".join(blocks).split("\n\n"), *self.notes]
        )


def written(value: object) -> Iterator[str]:
    """What a part of a sheet writes, span by span; icons are drawn, and ticks of a chart may be thinned."""
    if isinstance(value, dict):
        if value.get("type") == "span":
            yield from [value["text"]] if value["kind"] in ("text", "footnote") else []
            return
        for key, inner in value.items():
            yield from inner if value["type"] == "code" and key == "lines" else written(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from written(inner)


def letters(texts: Iterator[str]) -> Counter[str]:
    return Counter(re.sub(r"\s", "", "".join(texts)))


def where(one: Character, places: tuple[Place, ...]) -> str | None:
    """The region in whose frame a character is as a whole."""
    for place in places:
        if (
            place.x - 1 <= one.left
            and one.right <= place.x + place.width + 1
            and place.y - 1 <= one.top
            and one.bottom <= place.y + place.height + 1
        ):
            return place.name
    return None


def faults(sheet: Sheet, page: Page) -> list[str]:
    """What is wrong on a page."""
    glyphs = characters(page.data)
    found = [f"outside of its frame: {one}" for one in glyphs if where(one, page.places) is None]
    found += [f"too small: {one}" for one in glyphs if one.size_pt < 9 - 0.01]
    found += [f"over each other: {one} and {other}" for one, other in overlaps(glyphs)]
    for region in (region for band in sheet.bands for region in band.regions):
        drawn = Counter(one.char for one in glyphs if where(one, page.places) == region.name)
        parts = [region.title, region.blocks, *(spans for _, spans in region.footnotes)]
        missing = letters(written(to_json(tuple(parts)))) - drawn
        if missing:
            found.append(f"missing in {region.name}: {missing}")
    return found


# What a sheet may be refused for when all of it is well written: it is too much for a page, or longer than is read.
TOO_MUCH = ("no_room", "too_wide", "too_high", "too_long", "too_many_arrows")
LIMITS = ("long_line", "too_many_characters", "too_many_cells")
REFUSALS = [f"sheet.{code}" for code in (*TOO_MUCH, *LIMITS)]


@pytest.mark.slow
@given(st.integers(0, 10**9))
@settings(max_examples=12, deadline=None)
def test_a_sheet_is_drawn_whole_or_refused(seed: int):
    refusal, found = "", []
    try:
        sheet = read(Writer(seed).sheet())
        found = faults(sheet, render(sheet))
    except SheetError as error:
        refusal = error.code
    assert not found
    assert refusal in ("", *REFUSALS)


@pytest.mark.slow
@given(st.integers(0, 10**9), st.sampled_from(["flow", "sequence", "mindmap"]))
@settings(max_examples=12, deadline=None)
def test_no_line_of_a_diagram_goes_through_its_text(seed: int, kind: str):
    refusal, found = "", []
    try:
        sheet = read(TOP.format(layout="8% title\n92% one") + getattr(Writer(seed), kind)() + "\n")
        page = render(sheet)
        found = [*faults(sheet, page), *map(str, crossed(page.data))]
    except SheetError as error:
        refusal = error.code
    assert not found
    assert refusal in ("", *REFUSALS)


TOP = '---\ntitle: "a"\n---\n```layout\n{layout}\n```\n## One <!-- one: blue -->\n'


@pytest.mark.parametrize(
    ("layout", "body"),
    [
        ("60% one\n40% title", "text"),  # the title below its regions
        ("10% title\n90% one", "word " * 1500),
        ("10% title\n90% one", "```mermaid\nflowchart LR\nA -->|to| A\nA -->|itself| A\nA --> B\n```"),
        ("10% title\n90% one", "```mermaid\nflowchart TD\nA -->|one long label| B\nA -->|another long one| C\n```"),
    ],
)
def test_what_once_was_drawn_badly(layout: str, body: str):
    sheet = read(TOP.format(layout=layout) + body + "\n")
    page = render(sheet)
    assert not faults(sheet, page)
    assert not crossed(page.data)


@pytest.mark.parametrize(
    ("layout", "body", "name", "region"),
    [
        ("1% one\n99% title", "text", "no_room", "one"),
        ("98% one\n2% title", "text", "no_room", "title"),
        ("10% title\n90% one", "word " * 5000, "too_long", "one"),
    ],
)
def test_what_has_no_room_is_refused(layout: str, body: str, name: str, region: str):
    with pytest.raises(SheetError) as raised:
        render(read(TOP.format(layout=layout) + body + "\n"))
    assert (raised.value.code, raised.value.values["region"]) == (f"sheet.{name}", region)
