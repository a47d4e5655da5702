"""The addresses of sheets in the studio: what there is, what there is not, and what a changed text does."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from nudge.errors import SheetError
from nudge.sheet.catalog import FORMATS, NAMES, text_of
from nudge.studio.models import Models
from nudge.studio.sheets import N_TEXTS, TEXT_BYTES, SheetRef, Sheets, ref_of_file, ref_of_query
from nudge.studio.words import LANGUAGES

REF = SheetRef(what="io", language="ko")


@pytest.fixture
def sheets(tmp_path: Path) -> Sheets:
    return Sheets(Models(tmp_path))


@pytest.fixture
def client(sheets: Sheets) -> Iterator[TestClient]:
    app = FastAPI()
    app.get("/sheets/{file}")(sheets.answer)
    with TestClient(app) as client:
        yield client


def test_every_sheet_is_found_at_its_own_address() -> None:
    for what in NAMES:
        for language in LANGUAGES:
            for form in FORMATS:
                file = f"{what}.{language}.{form}"
                ref, found = ref_of_file(file)
                assert found == form
                assert ref.address(form) == f"/sheets/{file}"
                assert ref.file(form) == file


def test_the_address_says_whose_sheet_and_which_text() -> None:
    ref = SheetRef(what="run", language="en", run="작은 run", changed="0af")
    assert ref.address("pdf") == "/sheets/run.en.pdf?run=%EC%9E%91%EC%9D%80+run&text=0af"
    assert ref.file("pdf") == "작은 run.en.pdf"
    assert SheetRef(what="io", run="tiny").address("png") == "/sheets/io.en.png"  # the lecture's are of no run


def test_the_page_asks_for_what_its_address_says() -> None:
    assert ref_of_query({"what": "io", "lang": "en", "run": "tiny", "text": "0af"}, "ko") == SheetRef(
        what="io", language="en", run="tiny", changed="0af"
    )
    assert (
        ref_of_query({}, "ko")
        == ref_of_query({"what": "../x", "lang": "fr"}, "ko")
        == SheetRef(what="gpt2", language="ko")
    )


@pytest.mark.parametrize(
    ("file", "kind", "word"),
    [
        ("gpt3.ko.pdf", "sheet", "gpt3"),
        ("gpt2.fr.pdf", "language", "fr"),
        ("gpt2.ko.docx", "format", "docx"),
        ("gpt2.ko", "format", ""),
        ("gpt2.pdf", "language", "pdf"),
        ("gpt2.ko.pdf.exe", "sheet", "gpt2.ko.pdf.exe"),
        ("..", "sheet", ""),
        ("", "sheet", ""),
    ],
)
def test_what_there_is_not(file: str, kind: str, word: str, client: TestClient) -> None:
    with pytest.raises(SheetError) as error:
        ref_of_file(file)
    assert error.value.code == "sheet.not_found"
    assert (error.value.values["kind"], error.value.values["word"]) == (kind, word)
    if file.strip("."):
        answer = client.get(f"/sheets/{file}")
        assert answer.status_code == 404
        assert answer.json() == {"code": "sheet.not_found", "error": error.value.message, "hint": error.value.hint}


def test_runs_and_texts_that_there_are_not(client: TestClient, tmp_path: Path) -> None:
    (tmp_path.parent / "outside").mkdir(exist_ok=True)
    codes = dict.fromkeys(("run=nope", "run=../outside", "run=/etc", "run=."), "run.unknown")
    for query, code in {**codes, "text=nope": "sheet.forgotten"}.items():
        answer = client.get(f"/sheets/run.ko.pdf?{query}")
        assert answer.status_code == 404, query
        assert answer.json()["code"] == code
    answer = client.get("/sheets/run.ko.pdf")  # whose?
    assert answer.status_code == 422
    assert answer.json()["code"] == "sheet.no_run_yet"


def test_a_folder_that_is_no_run_yet_says_so(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    answer = client.get("/sheets/run.en.png?run=new")
    assert answer.status_code == 422
    assert "new" in answer.json()["error"]


def test_a_file_has_its_name_its_kind_and_the_text(client: TestClient) -> None:
    answer = client.get("/sheets/io.ko.md")
    assert answer.status_code == 200
    assert answer.text == text_of("io", language="ko")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert answer.headers["content-disposition"] == 'inline; filename="io.ko.md"'
    assert answer.headers["cache-control"] == "private, no-cache"


def test_a_changed_text_has_an_address_until_it_is_forgotten(client: TestClient, sheets: Sheets) -> None:
    text = text_of("io", language="ko").replace('title: "', 'title: "My ', 1)
    ref = sheets.keep(REF, text)
    assert ref == sheets.keep(REF, text), "the same text has the same address"
    assert client.get(ref.address("md")).text == text
    for n in range(N_TEXTS):
        sheets.keep(REF, f"{text}\n<!-- {n} -->\n")
    answer = client.get(ref.address("md"))
    assert answer.status_code == 404
    assert answer.json()["code"] == "sheet.forgotten"


def test_a_text_that_is_no_sheet_names_its_line(client: TestClient, sheets: Sheets) -> None:
    ref = sheets.keep(REF, text_of("io", language="ko").replace("blue -->", "bleu -->", 1))
    answer = client.get(ref.address("pdf"))
    assert answer.status_code == 422
    assert "line " in answer.json()["error"]
    assert "blue" in answer.json()["hint"]
    korean = client.get(ref.address("pdf"), headers={"accept-language": "ko"})
    assert "번째 줄: color: 고를 수 없는 값입니다: 'bleu'" in korean.json()["error"]


def test_a_text_may_be_so_long(sheets: Sheets) -> None:
    sheets.keep(REF, "가" * (TEXT_BYTES // 3))
    with pytest.raises(SheetError) as error:
        sheets.keep(REF, "가" * (TEXT_BYTES // 3) + "abc")
    assert error.value.code == "sheet.text_too_long"
    assert error.value.values["n_bytes"] == 200_001


def test_a_page_is_drawn_once(sheets: Sheets) -> None:
    text = text_of("io", language="en")
    assert sheets._draw(text, "md", name="io") is sheets._draw(text, "md", name="io")
