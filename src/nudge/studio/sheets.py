"""The cheat sheets that the studio draws: for the page's preview, and for the addresses of downloads."""

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import cast
from urllib.parse import quote, urlencode

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from nudge.errors import NudgeError, SheetError, nearest
from nudge.sheet import catalog
from nudge.sheet.catalog import FORMATS, LECTURE, NAMES
from nudge.sheet.page import Language
from nudge.studio.models import Models
from nudge.studio.words import LANGUAGES
from nudge.studio.worker import Worker

TEXT_BYTES = 200_000  # of a text that a person changed; the lecture's have 4,000
N_TEXTS = 32
N_DRAWN = 24  # pages, of up to 2 MB
_MEDIA = {"pdf": "application/pdf", "png": "image/png", "svg": "image/svg+xml", "md": "text/markdown; charset=utf-8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which sheet: what is on it, in which language, of which run, and as changed by a person (the key of the text)."""

    what: str = LECTURE[0]
    language: Language = "en"
    run: str | None = None
    changed: str | None = None

    def file(self, form: str) -> str:
        """What the sheet is called as a file."""
        return f"{self.run if self.what == 'run' and self.run else self.what}.{self.language}.{form}"

    def address(self, form: str) -> str:
        """Where it is on this server."""
        query = {"run": self.run if self.what == "run" else None, "text": self.changed}
        query = {name: value for name, value in query.items() if value}
        return f"/sheets/{self.what}.{self.language}.{form}" + (f"?{urlencode(query)}" if query else "")


def asked_by(query: Mapping[str, str], language: str) -> Asked:
    """What the page's address asks for; if that is no sheet, the first one, in the page's `language`."""
    what, lang = query.get("what", ""), query.get("lang", "")
    return Asked(
        what=what if what in NAMES else LECTURE[0],
        language=cast(Language, lang if lang in LANGUAGES else language),
        run=query.get("run"),
        changed=query.get("text"),
    )


def asked_for(file: str, run: str | None = None, changed: str | None = None) -> tuple[Asked, str]:
    """The sheet and the format that the last part of `Asked.address` names. Raises: SheetError if there is no such."""
    what, language, form = (*file.split("."), "", "")[:3]
    known = (("sheet", what, NAMES), ("language", language, LANGUAGES), ("format", form, FORMATS))
    for kind, word, words in known:
        if word not in words:
            raise SheetError(f"there is no {kind} {word[:40]!r}", nearest(word[:40], words))
    if file != f"{what}.{language}.{form}":
        raise SheetError(f"there is no sheet {file[:80]!r}", f"{what}.{language}.{form}")
    return Asked(what=what, language=cast(Language, language), run=run, changed=changed), form


class Sheets:
    """The texts of sheets, changed ones too, and their pages. All of it is in memory, and the oldest is forgotten."""

    def __init__(self, models: Models) -> None:
        self.models = models
        self.worker = Worker("sheets")  # one page after another: each keeps a core busy for about a second
        self._changed: OrderedDict[str, str] = OrderedDict()
        self._draw = functools.lru_cache(maxsize=N_DRAWN)(catalog.draw)

    def keep(self, asked: Asked, text: str) -> Asked:
        """The sheet with that text in place of its own. Raises: SheetError if it is too long to be one."""
        if len(data := text.encode("utf-8", "replace")) > TEXT_BYTES:
            raise SheetError(
                f"the text has {len(data):,} bytes, and a sheet may have {TEXT_BYTES:,}", "a page holds about 4,000"
            )
        key = hashlib.sha256(data).hexdigest()[:32]
        self._changed[key] = text
        self._changed.move_to_end(key)
        while len(self._changed) > N_TEXTS:
            self._changed.popitem(last=False)
        return replace(asked, changed=key)

    def check(self, asked: Asked) -> None:
        """Raises: RunError if there is no such run, SheetError if a changed text is not remembered."""
        if asked.what == "run" and asked.run is not None:
            self.models.folder(asked.run)
        if asked.changed is not None and asked.changed not in self._changed:
            raise SheetError("this change of the sheet is no longer remembered", "change the sheet anew")

    async def text(self, asked: Asked) -> str:
        """The markdown of a sheet. Raises: SheetError if there is nothing to write; as `check` does."""
        self.check(asked)
        if asked.changed is not None:
            return self._changed[asked.changed]
        if asked.what == "run" and asked.run is None:
            raise SheetError("there is no run yet", "nudge train")
        run = self.models.folder(asked.run).path if asked.what == "run" and asked.run else None
        return await self.worker.ask(catalog.text_of, asked.what, run=run, language=asked.language)

    async def draw(self, text: str, form: str, *, name: str, key: Hashable = None) -> bytes:
        """The page of a text. With a `key`, only the newest question by that name counts.

        Raises: NudgeError's children, as `sheet.draw` does; SupersededError.
        """
        return await self.worker.ask(self._draw, text, form, name=name, key=key)

    async def answer(self, request: Request, file: str) -> Response:
        """What `Asked.address` leads to: the page, or why there is none as JSON."""
        try:
            asked, form = asked_for(file, request.query_params.get("run"), request.query_params.get("text"))
            self.check(asked)
        except NudgeError as error:
            return _refusal(404, error)
        try:
            page = await self.draw(await self.text(asked), form, name=asked.what)
        except NudgeError as error:
            return _refusal(422 if isinstance(error, SheetError) else 503, error)
        headers = {"content-disposition": _called(asked.file(form)), "cache-control": "private, no-cache"}
        return Response(page, media_type=_MEDIA[form], headers=headers)


def _refusal(status: int, error: NudgeError) -> JSONResponse:
    return JSONResponse({"error": error.message, "hint": error.hint}, status)


def _called(file: str) -> str:
    """A header that gives a file its name, whatever letters it has. Source: RFC 6266, section 4.3; RFC 8187."""
    plain = quote(file, safe="")
    return f'inline; filename="{file}"' if plain == file else f"inline; filename*=UTF-8''{plain}"
