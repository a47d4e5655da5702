"""Knobs: the desk. A channel for each block with two dials, a fader for each head, and buttons to mute and solo."""

from collections.abc import Callable
from functools import partial
from typing import Any

from nicegui.element import Element

from nudge.config import ModelConfig
from nudge.look import Knobs
from nudge.studio.components import box, card, legend, mark, text
from nudge.studio.dial import Dial
from nudge.studio.visit import Visit


class Channel:
    """What a block is played with."""

    def __init__(self, visit: Visit, block: int, n_head: int, turned: Callable[[], Any]) -> None:
        t = visit.t
        self.muted = self.solo = False
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
                self.mute_button = _switch("M", t("knobs.mute", n=block))
                self.solo_button = _switch("S", t("knobs.solo", n=block))

    def show(self, *, silent: bool) -> None:
        """Show which buttons are on, and whether anything of this block is heard."""
        for element, on in ((self.mute_button, self.muted), (self.solo_button, self.solo)):
            mark(element, on, aria="pressed")
        mark(self.place, silent, "silent")


def _switch(label: str, said: str) -> Element:
    return text(label, "mute", tag="button", type="button", title=said, aria_label=said, aria_pressed="false")


class Desk:
    """All channels, side by side; what does not fit is scrolled to."""

    def __init__(self, visit: Visit, config: ModelConfig, turned: Callable[[], Any]) -> None:
        t = visit.t
        self._turned = turned
        self.channels: list[Channel] = []

        def colours() -> None:
            legend((t("knobs.attention"), "var(--blue)", "dot"), ("MLP", "var(--accent)", "dot"))

        with card(t("knobs.desk"), t("knobs.desk_note"), "knobs-desk", right=colours):
            with box("desk", role="group", aria_label=t("knobs.desk"), style=f"--fader:{_fader_px(config.n_head)}px"):
                for block in range(config.n_layer):
                    channel = Channel(visit, block, config.n_head, turned)
                    channel.mute_button.on("click", partial(self._switched, channel, "muted"))
                    channel.solo_button.on("click", partial(self._switched, channel, "solo"))
                    self.channels.append(channel)
            text(t("knobs.how"), "s12 ink3", style="margin-top:16px")

    async def _switched(self, channel: Channel, what: str) -> None:
        setattr(channel, what, not getattr(channel, what))
        self._show()
        await self._turned()

    def _show(self) -> None:
        for block, channel in enumerate(self.channels):
            channel.show(silent=block in self.silent)

    @property
    def silent(self) -> set[int]:
        """The blocks that only pass on what they read: muted ones and, while others are played alone, the rest."""
        some_alone = any(channel.solo for channel in self.channels)
        return {
            block for block, channel in enumerate(self.channels) if channel.muted or (some_alone and not channel.solo)
        }

    @property
    def knobs(self) -> Knobs:
        return Knobs(
            attention={block: channel.attention.value for block, channel in enumerate(self.channels)},
            mlp={block: channel.mlp.value for block, channel in enumerate(self.channels)},
            heads={
                (block, head): fader.value
                for block, channel in enumerate(self.channels)
                for head, fader in enumerate(channel.heads)
            },
        ).muted(self.silent)

    @property
    def moved(self) -> dict[str, int]:
        """How many dials and faders are not at 1, and how many blocks are silent."""
        return {
            "dials": sum(channel.attention.moved + channel.mlp.moved for channel in self.channels),
            "heads": sum(fader.moved for channel in self.channels for fader in channel.heads),
            "muted": len(self.silent),
        }

    def reset(self) -> None:
        """Everything as trained."""
        for channel in self.channels:
            for dial in (channel.attention, channel.mlp, *channel.heads):
                dial.set(dial.rest)
            channel.muted = channel.solo = False
        self._show()


def _fader_px(n_head: int) -> int:
    """How wide a fader is: many heads have less room each, so that a block is not much wider than its dials."""
    return 18 if n_head <= 6 else 14 if n_head <= 8 else 11 if n_head <= 16 else 9


def _number(head: int, n_head: int) -> str:
    """The number below a fader; where faders are narrow, every second or fifth has one."""
    every = 1 if n_head <= 8 else 2 if n_head <= 16 else 5
    return str(head) if head % every == 0 else ""
