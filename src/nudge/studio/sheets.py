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

from nudge.errors import NudgeError, SheetError, did_you_mean
from nudge.sheet import catalog
from nudge.sheet.catalog import FORMATS, LECTURE, NAMES
from nudge.sheet.page import Language
from nudge.studio.drawing import Drawer
from nudge.studio.models import Models
from nudge.studio.words import LANGUAGES, Words, preferences
from nudge.studio.worker import Worker

TEXT_BYTES = 200_000  # of a text that the user changed; the lecture's have 4,000
N_TEXTS = 32
N_DRAWN = 24  # pages, of up to 2 MB
_MEDIA = {"pdf": "application/pdf", "png": "image/png", "svg": "image/svg+xml", "md": "text/markdown; charset=utf-8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetRef:
    """A sheet: its content, its language, its run, and the key of its text if the user changed it."""

    what: str = LECTURE[0]
    language: Language = "en"
    run: str | None = None
    changed: str | None = None

    def file(self, form: str) -> str:
        """Return the sheet's file name."""
        return f"{self.run if self.what == 'run' and self.run else self.what}.{self.language}.{form}"

    def address(self, form: str) -> str:
        """Return the sheet's address on this server."""
        query = {"run": self.run if self.what == "run" else None, "text": self.changed}
        query = {name: value for name, value in query.items() if value}
        return f"/sheets/{self.what}.{self.language}.{form}" + (f"?{urlencode(query)}" if query else "")


def ref_of_query(query: Mapping[str, str], language: str) -> SheetRef:
    """Return the sheet that the page's address names, by default the first one in the page's `language`."""
    what, lang = query.get("what", ""), query.get("lang", "")
    return SheetRef(
        what=what if what in NAMES else LECTURE[0],
        language=cast(Language, lang if lang in LANGUAGES else language),
        run=query.get("run"),
        changed=query.get("text"),
    )


def ref_of_file(file: str, run: str | None = None, changed: str | None = None) -> tuple[SheetRef, str]:
    """Return the sheet and the format that the last part of `SheetRef.address` names. Raises: SheetError."""
    what, language, form = (*file.split("."), "", "")[:3]
    canonical = f"{what}.{language}.{form}"
    known = (("sheet", what, NAMES), ("language", language, LANGUAGES), ("format", form, FORMATS))
    for kind, word, words in (*known, ("sheet", file, [canonical])):
        if word not in words:
            raise SheetError("not_found", kind=kind, word=word[:80], closest=did_you_mean(word[:80], words))
    return SheetRef(what=what, language=cast(Language, language), run=run, changed=changed), form


class Sheets:
    """The texts of sheets, also changed ones, and their pages. All of it is in memory; the oldest is dropped."""

    def __init__(self, models: Models) -> None:
        self.models = models
        self.texts = Worker("texts of sheets")
        self.worker = Worker("sheets")  # one page after another: each keeps a core busy for about a second
        self.drawer = Drawer(self.worker.is_superseded)
        self._changed: OrderedDict[str, str] = OrderedDict()
        self._draw = functools.lru_cache(maxsize=N_DRAWN)(self.drawer.draw)

    def keep(self, ref: SheetRef, text: str) -> SheetRef:
        """Store a changed text and return the sheet with it. Raises: SheetError if it is too long."""
        if len(data := text.encode("utf-8", "replace")) > TEXT_BYTES:
            raise SheetError("text_too_long", n_bytes=len(data), limit=TEXT_BYTES)
        key = hashlib.sha256(data).hexdigest()[:32]
        self._changed[key] = text
        self._changed.move_to_end(key)
        while len(self._changed) > N_TEXTS:
            self._changed.popitem(last=False)
        return replace(ref, changed=key)

    def check(self, ref: SheetRef) -> None:
        """Check that the sheet exists. Raises: RunError for its run, SheetError for a forgotten change."""
        if ref.what == "run" and ref.run is not None:
            self.models.folder(ref.run)
        if ref.changed is not None and ref.changed not in self._changed:
            raise SheetError("forgotten")

    async def text(self, ref: SheetRef) -> str:
        """Return the Markdown of a sheet. Raises: SheetError if there is nothing to write; as `check` does."""
        self.check(ref)
        if ref.changed is not None:
            return self._changed[ref.changed]
        if ref.what == "run" and ref.run is None:
            raise SheetError("no_run_yet")
        run = self.models.folder(ref.run).path if ref.what == "run" and ref.run else None
        return await self.texts.ask(catalog.text_of, ref.what, run=run, language=ref.language)

    async def draw(self, text: str, form: str, *, name: str, key: Hashable = None) -> bytes:
        """Draw the page of a text. With a `key`, a newer request replaces an older one.

        Raises: NudgeError's children, as `Drawer.draw` does; SupersededError.
        """
        return await self.worker.ask(self._draw, text, form, name=name, key=key)

    async def answer(self, request: Request, file: str) -> Response:
        """Answer a request for `SheetRef.address`: the page, or an error as JSON."""
        try:
            ref, form = ref_of_file(file, request.query_params.get("run"), request.query_params.get("text"))
            self.check(ref)
        except NudgeError as error:
            return _refusal(404, error, request)
        try:
            page = await self.draw(await self.text(ref), form, name=ref.what)
        except NudgeError as error:
            return _refusal(422 if isinstance(error, SheetError) else 503, error, request)
        headers = {"content-disposition": _disposition(ref.file(form)), "cache-control": "private, no-cache"}
        return Response(page, media_type=_MEDIA[form], headers=headers)


def _refusal(status: int, error: NudgeError, request: Request) -> JSONResponse:
    message, hint = Words(preferences(request)[0]).failure(error)
    return JSONResponse({"code": error.code, "error": message, "hint": hint}, status)


def _disposition(file: str) -> str:
    """Return a header that names a file, with any letters. Source: RFC 6266, section 4.3; RFC 8187."""
    plain = quote(file, safe="")
    return f'inline; filename="{file}"' if plain == file else f"inline; filename*=UTF-8''{plain}"
