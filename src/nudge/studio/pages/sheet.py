"""Sheet: one page of pen notes to view, change and download. The address names it."""

from dataclasses import replace

from nudge.errors import NudgeError
from nudge.sheet.catalog import FORMATS
from nudge.studio import layout
from nudge.studio.components import box, button, link, mark, state, text
from nudge.studio.page import Page
from nudge.studio.pages.sheet_choice import choices
from nudge.studio.pages.sheet_editor import Editor
from nudge.studio.pages.sheet_preview import Preview
from nudge.studio.sheets import ref_of_query
from nudge.studio.visit import when_connected

_FORMS = {"pdf": "PDF", "png": "PNG", "svg": "SVG", "md": "Markdown"}


class SheetPage(Page):
    """The sheets at the left, or the text of one that the user changes; its page at the right."""

    kept = ("what", "lang")
    original = text = ""
    editor: Editor | None = None

    def build(self) -> None:
        visit = self.visit
        self.ref = ref_of_query(visit.query, visit.language)  # of the page that is shown
        with self.title_row, box("hs"):
            self._actions()
        with box("grid sheet") as self.grid:
            with box("aside"):
                with box("stack choosing"):
                    choices(visit, self.ref)
                self.editing = box("editing", id="editing")
            self.preview = Preview(visit)
        when_connected(visit.handle(self._open))

    def _actions(self) -> None:
        t = self.t
        with box("downloads", role="group", aria_labelledby="download") as self.downloads:
            text(t("sheet.download"), "s13 ink2", id="download")
            self.links = {form: link(_FORMS[form], "", "q-btn ghost small") for form in FORMATS}
        self.change = button(t("sheet.change"), self.visit.handle(self._turn), icon="edit", aria_controls="editing")
        state(self.change, "expanded", False)
        self._link()

    def _link(self) -> None:
        """Point the downloads to the sheet that is shown."""
        for form, element in self.links.items():
            element.props.update({"href": self.ref.address(form), "download": self.ref.file(form)})

    async def _open(self) -> None:
        """Open the sheet that the address names; without its change, if that is no longer in memory."""
        sheets = self.visit.app.sheets
        try:
            self.original = await sheets.text(replace(self.ref, changed=None))
        except NudgeError as error:
            self._refuse(error)
            self.change.disable()
            return
        self.text = self.original
        try:
            if self.ref.changed:
                self.text = await sheets.text(self.ref)
        except NudgeError as error:
            self.visit.say(error)
        self.preview.begin(self.text)
        if self.text != self.original:
            self._turn()
        await self._draw(self.text)

    def _turn(self) -> None:
        """Open the editor or close it."""
        if not self.text:
            return
        if self.editor is None:
            with self.editing:
                self.editor = Editor(self.visit, self.text, self.original, draw=self._draw, close=self._turn)
        is_on = "changing" not in self.grid.classes
        mark(self.grid, is_on, "changing")
        state(self.change, "expanded", is_on)

    async def _draw(self, written: str) -> None:
        """Draw a text. If it cannot be drawn, the page stays and the error is shown."""
        self.text = written
        sheets, ref = self.visit.app.sheets, replace(self.ref, changed=None)
        try:
            ref = ref if written == self.original else sheets.keep(ref, written)
            with self.preview.drawing():
                page = await sheets.draw(written, "png", name=ref.what, key=id(self))
        except NudgeError as error:
            if written == self.text:
                self._refuse(error)
            return
        if written == self.text:  # nothing newer was written meanwhile
            self.ref = ref
            self._show(page)

    def _show(self, page: bytes) -> None:
        self.preview.show(page, self.ref)
        mark(self.downloads, False, "hidden")
        self._link()
        if self.editor:
            self.editor.show(is_changed=self.ref.changed is not None)
        visit = self.visit
        others = {name: value for name, value in visit.query.items() if name != "text"}
        query = {**others, "text": self.ref.changed} if self.ref.changed else others
        if query != visit.query:
            visit.query = query
            layout.readdress(visit)

    def _refuse(self, error: NudgeError) -> None:
        if self.editor and "changing" in self.grid.classes:
            self.editor.refuse(error)
        else:
            self.preview.refuse(error)
        if self.preview.picture is None:
            mark(self.downloads, True, "hidden")
