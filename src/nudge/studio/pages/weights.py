"""Weights."""

from nudge.studio import shell
from nudge.studio.kit import text
from nudge.studio.models import Opened
from nudge.studio.visit import Visit


def build(visit: Visit) -> None:
    """Build the page."""

    def fill(opened: Opened) -> None:
        text(opened.run)

    with shell.page(visit):
        shell.with_model(visit, fill)
