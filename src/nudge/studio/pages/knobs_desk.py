"""Knobs: the desk. A channel for each block with two dials, a fader for each head, and buttons to mute and solo."""

from collections.abc import Callable
from functools import partial
from typing import Any

from nudge.config import ModelConfig
from nudge.look import Knobs
from nudge.studio.components import box, card, legend, mark, pressable, text
from nudge.studio.dial import Dial
from nudge.studio.visit import Visit

_SWITCHES = {"mute": "M", "solo": "S"}


class Channel:
    """The knobs of one block on the desk."""

    def __init__(self, desk: "Desk", visit: Visit, block: int, n_head: int) -> None:
        t, turned = visit.t, desk.turned
        self.desk = desk
        self.on = dict.fromkeys(_SWITCHES, False)
        with box("chan", role="group", aria_label=t("knobs.block", n=block)) as self.place:
            text(t("knobs.block", n=block), "b s13 nw")
            self.attention = Dial(
                turned, name=t("knobs.attention"), label=t("knobs.attention_of", n=block), classes="blue"
            )
            self.mlp = Dial(turned, name="MLP", label=t("knobs.mlp_of", n=block))
            with box("fad"):
                self.heads = [
                    Dial(turned, kind="fader", name=_number(head, n_head), label=t("knobs.head_of", head=head, n=block))
                    for head in range(n_head)
                ]
            text(t("knobs.heads"), "s12 ink3")
            with box("hs"):
                self.buttons = {}
                for name, letter in _SWITCHES.items():
                    label = t(f"knobs.{name}", n=block)
                    pressed = partial(self._switch, name)
                    self.buttons[name] = pressable(
                        pressed, letter, "mute", title=label, aria_label=label, aria_pressed="false"
                    )

    @property
    def dials(self) -> list[Dial]:
        return [self.attention, self.mlp]

    async def _switch(self, name: str) -> None:
        self.on[name] = not self.on[name]
        self.desk.show()
        await self.desk.turned()

    def reset(self) -> None:
        """Set everything as trained."""
        for dial in (*self.dials, *self.heads):
            dial.set(dial.rest)
        self.on = dict.fromkeys(_SWITCHES, False)

    def show(self, *, silent: bool) -> None:
        """Show which buttons are on, and whether the block is silent."""
        for name, element in self.buttons.items():
            mark(element, self.on[name], aria="pressed")
        mark(self.place, silent, "silent")


class Desk:
    """All channels, side by side, in a row that scrolls."""

    def __init__(self, visit: Visit, config: ModelConfig, turned: Callable[[], Any]) -> None:
        t = visit.t
        self.turned = turned
        colors = partial(legend, (t("knobs.attention"), "var(--blue)", "dot"), ("MLP", "var(--accent)", "dot"))
        with card(t("knobs.desk"), t("knobs.desk_note"), "knobs-desk", right=colors):
            with box("desk", role="group", aria_label=t("knobs.desk"), style=f"--fader:{_fader_px(config.n_head)}px"):
                self.channels = [Channel(self, visit, block, config.n_head) for block in range(config.n_layer)]
            text(t("knobs.how"), "s12 ink3", style="margin-top:16px")

    def show(self) -> None:
        """Show which blocks are silent."""
        for block, channel in enumerate(self.channels):
            channel.show(silent=block in self.silent)

    @property
    def silent(self) -> set[int]:
        """Return the blocks that only pass on their input: muted blocks and, if some are solo, all others."""
        any_solo = any(channel.on["solo"] for channel in self.channels)
        return {
            block
            for block, channel in enumerate(self.channels)
            if channel.on["mute"] or (any_solo and not channel.on["solo"])
        }

    @property
    def knobs(self) -> Knobs:
        channels = dict(enumerate(self.channels))
        return Knobs(
            attention={block: channel.attention.value for block, channel in channels.items()},
            mlp={block: channel.mlp.value for block, channel in channels.items()},
            heads={
                (block, head): fader.value
                for block, channel in channels.items()
                for head, fader in enumerate(channel.heads)
            },
        ).mute(self.silent)

    @property
    def moved(self) -> dict[str, int]:
        """Return the numbers of dials and faders that are not at 1, and of silent blocks."""
        return {
            "dials": sum(dial.moved for channel in self.channels for dial in channel.dials),
            "heads": sum(fader.moved for channel in self.channels for fader in channel.heads),
            "muted": len(self.silent),
        }

    def reset(self) -> None:
        """Set everything as trained."""
        for channel in self.channels:
            channel.reset()
        self.show()


def _fader_px(n_head: int) -> int:
    """Return the width of a fader. Many faders are narrower, so that a block stays about as wide as its dials."""
    return 18 if n_head <= 6 else 14 if n_head <= 8 else 11 if n_head <= 16 else 9


def _number(head: int, n_head: int) -> str:
    """Return the number below a fader. Of narrow faders only every second or fifth has one."""
    every = 1 if n_head <= 8 else 2 if n_head <= 16 else 5
    return str(head) if head % every == 0 else ""
