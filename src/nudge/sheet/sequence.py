"""Mermaid's sequenceDiagram. Source of the language: mermaid.js.org/syntax/sequenceDiagram."""

import re
from dataclasses import dataclass, field
from typing import Literal

from nudge.errors import SheetError
from nudge.sheet.labels import Numbered, label
from nudge.sheet.page import Bar, Line, Message, Sequence, Span, Tip

FRAMES = ("loop", "alt", "opt", "par", "critical", "break", "rect")
PARTS = {"else": "alt", "and": "par", "option": "critical"}
# Of names that have an `x` after their dashes, `my-xml->>A`, the arrow is the one with a head of its own.
ARROWS = (re.compile(r"(<<)?(--?)(>>?|\))"), re.compile(r"()(--?)(x)"))
HEADS: dict[str, Tip] = {">": "none", ">>": "arrow", ")": "half", "x": "cross"}
SIDES: dict[str, Literal["over", "left", "right"]] = {"over ": "over", "left of ": "left", "right of ": "right"}
NOT_DRAWN = ("accTitle", "accDescr", "link", "links", "properties")  # for screen readers and the mouse


def sequence(lines: list[Numbered], at: int) -> Sequence:
    """Parse the participants and their messages.

    Raises: SheetError.
    """
    reader = _Reader()
    for number, content in lines:
        reader.read(number, content.strip())
    return reader.end(at)


@dataclass(slots=True)
class _Reader:
    """The participants and messages of the lines read so far."""

    actors: dict[str, Line] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)  # of the actors, in their order
    messages: list[Message] = field(default_factory=list)
    frames: list[tuple[str, int]] = field(default_factory=list)  # the open ones: their word, their line
    working: dict[int, tuple[int, int]] = field(default_factory=dict)  # by actor: the first message, how often begun
    bars: list[Bar] = field(default_factory=list)
    title: Line = ()
    counter: int | None = None  # the number of the next message
    step: int = 1

    def read(self, at: int, text: str) -> None:
        word, _, after = text.partition(" ")
        after = after.strip()
        if word in ("participant", "actor") and after:
            name, _, alias = after.partition(" as ")
            self._actor(name.strip(), at)
            if alias:
                self.actors[name.strip()] = label(alias, at)
        elif word.lower() == "note":
            self._note(after, at)
        elif word in FRAMES or word == "box":
            self._begin(word, after, at)
        elif word in PARTS and self.frames and self.frames[-1][0] == PARTS[word]:
            self.messages.append(Message(kind="part", spans=label(after, at) if after else ()))
        elif text.rstrip(";") == "end" and self.frames:
            if self.frames.pop()[0] != "box":
                self.messages.append(Message(kind="end"))
        elif word in ("activate", "deactivate") and after:
            self._work(self._actor(after, at), word == "activate", at)
        elif word == "autonumber" and re.fullmatch(r"(off|\d{1,6}( +\d{1,6})?)?", after):
            self._number(after)
        elif word.rstrip(":") == "title" and after:
            self.title = label(after, at)
        elif word.rstrip(":") not in NOT_DRAWN:
            self._message(text, at)

    def end(self, at: int) -> Sequence:
        if self.frames:
            word, began = self.frames[-1]
            raise SheetError("open_frame", line=began, word=word)
        if not any(message.kind == "message" for message in self.messages):
            raise SheetError("no_message", line=at)
        last = len(self.messages) - 1
        self.bars += [Bar(actor=actor, first=first, last=last) for actor, (first, _) in self.working.items()]
        return Sequence(
            actors=tuple(self.actors.values()), messages=tuple(self.messages), bars=tuple(self.bars), title=self.title
        )

    def _actor(self, name: str, at: int) -> int:
        if name not in self.actors:
            self.actors[name] = label(name, at)
        return self.numbers.setdefault(name, len(self.numbers))

    def _note(self, text: str, at: int) -> None:
        place, colon, words = text.partition(":")
        side = next((side for side in SIDES if place.startswith(side)), "")
        names = [name.strip() for name in place.removeprefix(side).split(",")]
        if not (colon and side and all(names)) or len(names) > (2 if side == "over " else 1):
            raise SheetError("note_place", line=at, got=place[:40])
        start, *_, end = sorted(self._actor(name, at) for name in [*names, names[-1]])
        self.messages.append(Message(kind="note", spans=label(words, at), start=start, end=end, side=SIDES[side]))

    def _begin(self, word: str, text: str, at: int) -> None:
        self.frames.append((word, at))
        if word == "box":  # groups participants by a color
            return
        spans = label(text, at) if text and word != "rect" else ()  # a rect has a color
        self.messages.append(Message(kind="frame", spans=spans, word="" if word == "rect" else word))

    def _message(self, text: str, at: int) -> None:
        ends, colon, words = text.partition(":")
        found = next(filter(None, (pattern.search(ends) for pattern in ARROWS)), None)
        start = ends[: found.start()].strip() if found else ""
        end = ends[found.end() :].strip() if found else ""
        change, end = (end[0], end[1:].strip()) if end[:1] in ("+", "-") else ("", end)
        if not (found and colon and start and end):
            raise SheetError("sequence_line", line=at, text=text[:60])
        numbers = self._actor(start, at), self._actor(end, at)
        self.messages.append(
            Message(
                spans=label(words, at) if words.strip() else (),
                start=numbers[0],
                end=numbers[1],
                dashed=found[2] == "--",
                tail="arrow" if found[1] else "none",
                head=HEADS[found[3]],
                number=self.counter,
            )
        )
        if self.counter is not None:
            self.counter += self.step
        if change:
            self._work(numbers[change == "+"], change == "+", at)

    def _number(self, words: str) -> None:
        first, *step = [1] if words in ("", "off") else map(int, words.split())
        self.counter, self.step = (None if words == "off" else first), (step or [1])[0]

    def _work(self, actor: int, begins: bool, at: int) -> None:
        """Begin or end the bar of an actor. Only the outermost of several is drawn."""
        now = max(0, len(self.messages) - 1)
        first, times = self.working.pop(actor, (now, 0))
        if not begins and not times:
            raise SheetError("not_active", line=at, actor=_plain(list(self.actors.values())[actor]))
        times += 1 if begins else -1
        if times:
            self.working[actor] = (first, times)
        else:
            self.bars.append(Bar(actor=actor, first=first, last=now))


def _plain(spans: tuple[Span, ...]) -> str:
    return "".join(span.text for span in spans)
