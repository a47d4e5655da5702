"""Play: the card of the selected token: what it is, how likely it was, and its alternatives."""

from nudge.look import Drawn
from nudge.studio.components import bar, box, card, choice, legend, pairs, refill, text
from nudge.studio.models import Opened
from nudge.studio.pages.play_text import Written
from nudge.studio.tokens import Shown, show, show_each
from nudge.studio.words import Words
from nudge.util import formatting


class TokenCard:
    """The network's prediction at the place of the selected token."""

    def __init__(self, opened: Opened, t: Words) -> None:
        self._opened, self._t = opened, t
        with card(t("play.token"), classes="play-token"):
            self._place = box("stack", aria_live="polite")
        self.clear()

    def clear(self) -> None:
        with refill(self._place):
            text(self._t("play.choose"), "ink2")

    def show(self, written: Written) -> None:
        """Show a token, or the several tokens that make a character."""
        t, tokenizer = self._t, self._opened.tokenizer
        labels = show_each(tokenizer, written.group.tokens, t)
        with refill(self._place):
            if len(labels) > 1:
                text(t("play.several", text=written.group.text, n=len(labels)), "s13 ink2")
                self._overview(labels, written)
                names = {str(at): shown.label for at, shown in enumerate(labels)}
                choice(names, "0", lambda key: detail(int(key)), label=t("play.which"), classes="wrap")
            place = box("stack")

        def detail(at: int) -> None:
            with refill(place):
                self._detail(labels[at], written.draws[at])

        detail(0)

    def _overview(self, labels: tuple[Shown, ...], written: Written) -> None:
        names = [*(shown.label for shown in labels), self._t("play.together")]
        exact = [*(draw.probability for draw in written.draws), written.probability]
        rows = [(name, formatting.percent(value)) for name, value in zip(names, exact, strict=True)]
        for element, value in zip(pairs(*rows), exact, strict=True):
            element.props["title"] = f"{value:.6g}"

    def _detail(self, shown: Shown, draw: Drawn) -> None:
        t = self._t
        V = self._opened.network.config.vocab_size
        with box("hs"), box("chip next"):
            text(shown.label, "t")
            text(t("play.id", id=str(shown.id)), "i")
            text(shown.hex or "–", "y")
        probability, _, sampled = pairs(
            (t("play.probability"), formatting.percent(draw.probability)),
            (t("play.rank"), t("play.rank_of", rank=draw.rank, V=V)),
            (t("play.sampled"), formatting.percent(draw.sampled)),
        )
        probability.props["title"] = f"{draw.probability:.6g}"
        sampled.props["title"] = f"{draw.sampled:.6g}"
        box("hr")
        self._alternatives(draw)

    def _alternatives(self, draw: Drawn) -> None:
        t = self._t
        with box("stack play-alternatives"):
            text(t("play.likeliest"), "b")
            legend((t("play.true"), "var(--blue)", "square"), (t("play.drawn_from"), "var(--accent)", "square"))
            rows = [
                (candidate.rank, candidate.token, candidate.probability, sampled)
                for candidate, sampled in zip(draw.likeliest, draw.likeliest_sampled, strict=True)
            ]
            if draw.token not in [token for _, token, *_ in rows]:
                rows.append((draw.rank, draw.token, draw.probability, draw.sampled))
            longest = max(max(row[2:]) for row in rows)  # of the bars
            with box("play-rows"):
                for rank, token, *shares in rows:
                    with box(f"play-alt {'sel' if token == draw.token else ''}"):
                        label = show(self._opened.tokenizer, token, t).label
                        text(formatting.whole(rank), "r")
                        text(label, "t", title=label)
                        with box("two"):
                            for share, look in zip(shares, ("true", "drawn"), strict=True):
                                bar(share / longest, look)
                        _percentages(shares)
            with box("play-alt rest"):
                text(t("play.rest"), "ink2 s12")
                _percentages([max(0.0, 1 - sum(row[column] for row in rows)) for column in (2, 3)])


def _percentages(shares: list[float]) -> None:
    """Add the network's probability, and the one after temperature, top-k and top-p."""
    for share, color in zip(shares, ("blue", "acc"), strict=True):
        text(formatting.percent(share), f"p {color}")
