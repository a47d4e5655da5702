"""The sheet of a run: what it plots is what was measured, what it concludes follows, and foreign text stays text."""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sheets import pen_font

import nudge
from nudge import events
from nudge.errors import NudgeError
from nudge.events import Evaluation, Event, Sample, Skipped, Started, Step, Stopped
from nudge.model.sizes import parameter_counts
from nudge.runs.folder import RunFolder
from nudge.sheet import inline, measured, run_sheet, source
from nudge.sheet.lecture import PLACEHOLDER, template
from nudge.sheet.page import LANGUAGES, Block, Bullets, Chart, Columns, Line, Note, Paragraph, Sheet, Table
from nudge.sheet.render import render
from nudge.sheet.run_sheet import run_sheet_text
from nudge.sheet.sanitize import Pen, is_plain
from nudge.util import files, json_reader

SMALL = {
    "model": {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16},
    "train": {"steps": 8, "batch_tokens": 64, "optimizer": "adamw"},
    "sample": {"every": 4, "max_tokens": 4},
    "eval": {"every": 4, "tokens": 64},
    "save": {"every": 4},
    "machine": {"device": "cpu", "dtype": "float32", "threads": 1, "update": "eager"},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 8 updates."""
    here = tmp_path_factory.mktemp("trained")
    text = here / "sums.txt"
    text.write_text("".join(f"{i} and {i} make {2 * i}.\n" for i in range(500)))
    config = nudge.recipe("tiny", **{**SMALL, "data": {"paths": [str(text)], "tokenizer": "bytes"}})
    for _ in nudge.run(config, here / "run"):
        pass
    return here / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, to change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def write_run(run: Path) -> Callable[..., Path]:
    """Return a function that replaces the events of a run: a start with so many `steps`, then those of `story`."""
    started = next(event for event in events.read(run / "events.jsonl") if isinstance(event, Started))

    def write(*story: Event, steps: int = 100, **others: Any) -> Path:
        (run / "events.jsonl").unlink()
        with files.open_json_lines(run / "events.jsonl") as log:
            for event in (replace(started, steps=steps, **others), *story):
                files.append_json(log, events.to_json(event))
        return run

    return write


def step(number: int, loss: float) -> Step:
    return Step(
        step=number, time=0.0, loss=loss, lr=1e-3, grad_norm=1.0, tokens_per_s=50.0, step_s=2.0, train_s=2.0 * number
    )


def measure(number: int, loss: float) -> Evaluation:
    return Evaluation(step=number, time=0.0, loss=loss, bits_per_byte=loss, tokens=9, whole_split=False)


def story(validation: dict[int, float], training: Callable[[int], float]) -> Iterator[Event]:
    """A finished run with these validation losses."""
    last = max(validation)
    yield from (step(number, training(number)) for number in range(1, last + 1))
    yield from (measure(number, loss) for number, loss in validation.items())
    yield Stopped(step=last, time=300.0, reason="finished")


def blocks(sheet: Sheet, name: str) -> Iterator[Block]:
    """The blocks of a region, those in columns too."""
    (region,) = (region for band in sheet.bands for region in band.regions if region.name == name)
    for block in region.blocks:
        yield from chain.from_iterable(block.columns) if isinstance(block, Columns) else (block,)


def only(sheet: Sheet, name: str, kind: type[Any]) -> Any:
    """The first block of that kind in a region."""
    return next(block for block in blocks(sheet, name) if isinstance(block, kind))


def words(line: Line) -> str:
    return "".join(span.text for span in line)


def takeaways(folder: Path) -> str:
    """All that is concluded, in English, and what to do next."""
    found = []
    for block in blocks(source.read(run_sheet_text(folder, "en")), "takeaways"):
        if isinstance(block, Bullets):
            found += [words(item.spans) for item in block.items]
        elif isinstance(block, Note):
            found.append(words(block.spans))
    return "\n".join(found)


# What it shows is what was measured.


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_curves_go_through_the_losses_of_the_events(run: Path, language: str) -> None:
    history = list(events.read(run / "events.jsonl"))
    chart = only(source.read(run_sheet_text(run, language)), "loss", Chart)
    train, validation = chart.curves
    assert train.points == tuple((event.step, event.loss) for event in history if isinstance(event, Step))
    assert validation.points == tuple((event.step, event.loss) for event in history if isinstance(event, Evaluation))
    assert len(train.points) == 8
    assert not train.schematic
    assert not validation.schematic
    level, best = chart.marks
    assert (level.x, level.y) == (None, math.log(257))
    assert (best.x, best.y) == min(validation.points, key=lambda point: point[1])


def test_of_a_long_run_every_third_point_and_the_last(write_run: Callable[..., Path]) -> None:
    folder = write_run(*story({0: 5.5, 4500: 3.0}, lambda number: 5 - number / 2500), steps=4500)
    chart = only(source.read(run_sheet_text(folder, "en")), "loss", Chart)
    steps = [x for x, _ in chart.curves[0].points]
    assert steps == [*range(1, 4500, 3), 4500]
    assert all(y == 5 - x / 2500 for x, y in chart.curves[0].points)
    assert "every 3" in words(chart.caption)


def test_a_loss_that_is_no_number_is_no_point(write_run: Callable[..., Path]) -> None:
    """Nor is one without end, or so large that it might as well be."""
    folder = write_run(step(1, 5.0), step(2, math.nan), step(3, 1e30), step(4, math.inf), step(5, 4.0), measure(5, 4.5))
    chart = only(source.read(run_sheet_text(folder, "en")), "loss", Chart)
    assert chart.curves[0].points == ((1, 5.0), (5, 4.0))


@pytest.mark.parametrize("switch", [{}, {"rotary": True}, {"untied": True}])
def test_the_parameters_are_those_of_the_network(run: Path, switch: dict[str, bool]) -> None:
    written = json_reader.read(run / "run.json", dict)
    written["config"]["model"].update(switch)
    files.write_json(run / "run.json", written)
    rows = [[words(cell) for cell in row] for row in only(source.read(run_sheet_text(run, "en")), "model", Table).rows]
    counted = {row[0].split()[0]: int(row[2].replace(",", "")) for row in rows}
    expected = parameter_counts(measured.read(run).config.model)
    assert counted.pop("total") == expected.total == sum(counted.values())
    assert (counted["wte"], counted.get("wpe", 0), counted["MLP"]) == (expected.wte, expected.wpe, expected.mlp)
    assert counted["head"] == expected.head


def test_the_table_has_the_first_the_last_and_the_best_evaluation(write_run: Callable[..., Path]) -> None:
    losses = {number: 5.0 - number / 100 for number in range(0, 90, 10)} | {30: 2.5}
    table = only(source.read(run_sheet_text(write_run(*story(losses, lambda _: 3.0)), "en")), "loss", Table)
    shown = {int(words(row[0])): row[2] for row in table.rows}
    assert {0, 30, 80} <= set(shown)
    assert all(float(words(line)) == losses[number] for number, line in shown.items())
    assert [number for number, line in shown.items() if line[0].mark] == [30]


def test_the_data_are_those_of_the_manifest(run: Path) -> None:
    keys = {
        words(item.spans).split(" ")[0] for item in only(source.read(run_sheet_text(run, "en")), "data", Bullets).items
    }
    dataset = measured.read(run).dataset
    assert dataset is not None
    assert {f"{dataset.manifest.train.n_tokens:,}", f"{dataset.manifest.val.n_tokens:,}", "257"} <= keys
    assert measured.read(run).bytes_per_token == pytest.approx(1.0, abs=0.1)  # but for the token that starts a text
    assert measured.read(run).epochs == pytest.approx(8 * 4 / (dataset.manifest.train.n_tokens // 16))


def test_without_the_prepared_text_it_says_what_the_run_itself_knows(run: Path) -> None:
    written = json_reader.read(run / "run.json", dict)
    written["data"]["dir"] = str(run / "gone")
    files.write_json(run / "run.json", written)
    text = run_sheet_text(run, "en")
    source.read(text)
    assert "training tokens" not in text
    assert "==yellow:512== tokens read" in text
    assert "sums.txt" in text


# What it concludes follows from the figures.


def falling(number: int) -> float:
    return 5.5 - number / 25


@pytest.mark.parametrize(
    ("validation", "training", "shown", "not_shown"),
    [
        (
            {0: 5.5, 40: 3.2, 100: 4.5},
            falling,
            "Overfitting: validation 4.500 > best 3.200 + 0.0551, train 4.080 → 1.680",
            "No overf",
        ),
        ({0: 5.5, 40: 3.2, 100: 4.5}, lambda number: 1 + number / 25, "Unsteady: validation 4.500", "verfitting"),
        ({0: 5.5, 50: 4.0, 100: 3.0}, falling, "Still falling: 4.000 → 3.000 since update 50", "Unsteady"),
        ({0: 5.5, 50: 3.05, 100: 3.0}, falling, "No overfitting: 3.000 ≤ best 3.000 + 0.0551", "Still falling"),
        ({0: 5.5, 50: 3.0, 100: 3.05}, falling, "Nearly flat: 3.000 → 3.050 since update 50", "Overfitting"),
        ({0: 5.5, 100: 0.05}, falling, "99% less loss than a guess (5.549 → 0.050)", "Worse"),
        ({0: 5.5, 100: 6.0}, falling, "Worse than a guess: 6.000 > ln V 5.549", "less loss"),
    ],
)
def test_conclusions(
    write_run: Callable[..., Path],
    validation: dict[int, float],
    training: Callable[[int], float],
    shown: str,
    not_shown: str,
) -> None:
    concluded = takeaways(write_run(*story(validation, training)))
    assert shown in concluded
    assert not_shown not in concluded


def test_too_short_a_run_says_how_many_updates_are_enough(write_run: Callable[..., Path]) -> None:
    n_params = measured.read(write_run(*story({0: 5.5, 100: 3.0}, falling))).started.n_params
    concluded = takeaways(write_run(*story({0: 5.5, 100: 3.0}, falling)))
    enough = math.ceil(20 * n_params / 64)
    assert f"A short run: {6400 / n_params:.3g} tokens/parameter < 20 ({enough:,} updates make 20)" in concluded
    assert "tokens/parameter ≥ 20" in takeaways(
        write_run(*story({0: 5.5, 100: 3.0}, falling), batch_tokens=64 * enough)
    )


@pytest.mark.parametrize(
    ("validation", "batch_tokens", "command"),
    [
        ({0: 5.5, 50: 3.2, 100: 4.5}, 64, "nudge train --recipe tiny --data TEXT --steps 50"),
        ({0: 5.5, 50: 4.0, 100: 3.0}, 64, " --steps 200"),
        ({0: 5.5, 50: 3.05, 100: 3.0}, 64, " --steps 200"),  # flat, but it has read little
        ({0: 5.5, 50: 3.05, 100: 3.0}, 10**9, "nudge train --recipe tiny --data TEXT --set model.n_layer=4"),
        ({0: 5.5, 50: 0.5, 100: 0.05}, 64, "nudge predict "),
    ],
)
def test_what_to_do_next(
    write_run: Callable[..., Path], validation: dict[int, float], batch_tokens: int, command: str
) -> None:
    run = write_run(*story(validation, falling), batch_tokens=batch_tokens)
    (advice,) = (line for line in takeaways(run).splitlines() if "Next" in line)
    assert command in advice


def test_what_to_do_next_keeps_the_model_it_began_with(run: Path, write_run: Callable[..., Path]) -> None:
    written = json_reader.read(run / "run.json", dict)
    written["config"]["init"] = "runs/first"
    files.write_json(run / "run.json", written)
    folder = write_run(*story({0: 5.5, 50: 3.2, 100: 4.5}, falling))
    assert "nudge train --recipe tiny --init runs/first --data TEXT --steps 50" in takeaways(folder)
    flat = write_run(*story({0: 5.5, 50: 3.05, 100: 3.0}, falling), batch_tokens=10**9)
    assert " --steps 200" in takeaways(flat)  # another size would not be the same model


def test_the_first_loss_beside_a_guess(write_run: Callable[..., Path]) -> None:
    def note(first: float) -> str:
        sheet = source.read(run_sheet_text(write_run(*story({0: first, 100: 3.0}, falling)), "en"))
        return words(only(sheet, "loss", Note).spans)

    assert note(5.6).startswith("Start 5.600 ≈ ln 257 = 5.549")
    assert "more than 5% away" in note(6.0)


def test_what_it_cost(write_run: Callable[..., Path]) -> None:
    history = list(story({0: 5.5, 100: 3.0}, falling))
    assert "==red:$10.00== cost: $180 an hour" in run_sheet_text(write_run(*history, usd_per_hour=180.0), "en")  # 200 s
    assert "on a rented H100" in run_sheet_text(write_run(*history), "en")


# However a run went.


def test_the_date_is_where_the_person_is(write_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_run(*story({0: 5.5, 9: 3.0}, falling), time=1e9)  # 2001-09-09 01:46:40 UTC
    written = json_reader.read(folder / "run.json", dict)
    files.write_json(folder / "run.json", written | {"created": 1e9})
    try:
        for zone, date in (("Asia/Seoul", "2001-09-09"), ("America/New_York", "2001-09-08")):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            assert f"({date}, seed" in source.read(run_sheet_text(folder, "en")).subtitle
    finally:
        monkeypatch.undo()
        time.tzset()


def test_one_update(write_run: Callable[..., Path]) -> None:
    folder = write_run(step(1, 5.5), measure(1, 5.4), steps=1)
    assert only(source.read(run_sheet_text(folder, "ko")), "loss", Chart).curves[0].points == ((1, 5.5),)


def test_a_run_that_was_interrupted_or_goes_on(write_run: Callable[..., Path]) -> None:
    folder = write_run(*(step(number, falling(number)) for number in range(1, 61)), measure(50, 4.0))
    assert words(source.read(run_sheet_text(folder, "en")).corner) == "⚠ stopped at update 60 / 100"
    assert "Next: go on → nudge resume" in takeaways(folder)
    with RunFolder(folder).lock():
        assert words(source.read(run_sheet_text(folder, "ko")).corner) == "⏱ 스텝 60 / 100, 아직 학습 중"


def test_a_run_that_diverged_late_still_shows_what_it_learned(write_run: Callable[..., Path]) -> None:
    folder = write_run(*list(story({0: 5.5, 60: 4.0}, falling))[:-1], Stopped(step=60, time=9.0, reason="diverged"))
    assert "Diverged: after update 60" in takeaways(folder)
    assert "--set train.lr=" in takeaways(folder)


def test_a_resumed_run_with_skipped_updates_in_two_processes(write_run: Callable[..., Path]) -> None:
    *history, end = story({0: 5.5, 100: 3.0}, falling)
    bad = Skipped(step=30, time=0.0, loss=math.inf, grad_norm=math.nan, in_a_row=1)
    folder = write_run(*history, bad, processes=2)
    again = next(event for event in events.read(folder / "events.jsonl") if isinstance(event, Started))
    text = run_sheet_text(
        write_run(*history, bad, replace(again, step=50, resumed_from="step_00000050.pt"), end, processes=2), "en"
    )
    source.read(text)
    assert "==red:1== updates skipped" in text
    assert "==red:1== times resumed" in text
    assert "2 processes of 1 threads" in text


def test_a_real_run_that_went_on(run: Path) -> None:
    for _ in nudge.resume(run, steps=12):
        pass
    sheet = source.read(run_sheet_text(run, "ko"))
    assert words(sheet.corner) == "🏁 스텝 12 완료"
    assert [x for x, _ in only(sheet, "loss", Chart).curves[0].points] == list(range(1, 13))


def test_no_samples(write_run: Callable[..., Path]) -> None:
    sheet = source.read(run_sheet_text(write_run(*story({0: 5.5, 9: 3.0}, falling)), "en"))
    assert not any(isinstance(block, Bullets) for block in blocks(sheet, "loss"))


# What a model or a person wrote is text.

HOSTILE = (
    "\x1b[31m\x00\u202e # **bold** _x_ `code` ==mark== | cell | [^1] [a](b) ![i](j) <b>x</b> <!-- next --> &amp; \\",
    "{{name}} {{steps}} ```mermaid\nA-->B\n``` $x$ ~~~ - [x] --- **open ==open `open <br> 1. → note : blue strong",
)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_sample_of_markup_comes_out_as_its_text(write_run: Callable[..., Path], hostile: str) -> None:
    history = [Sample(step=at, time=0.0, prompt=hostile, text=hostile, seed=0) for at in (0, 100)]
    sheet = source.read(run_sheet_text(write_run(*story({0: 5.5, 100: 3.0}, falling), *history), "en"))
    written = only(sheet, "loss", Bullets)
    assert written.keys
    (step_0, *first), (_, *last) = (item.spans for item in written.items)
    assert step_0.mark
    pen = Pen(is_plain)
    assert [(span.kind, span.bold, span.code, span.mark) for span in last] == [("text", False, False, None)]
    assert words(last) == f" {pen.plain_text(hostile)}" == words(first[:1])
    assert [span.kind for span in first[1:]] == ["footnote"] * ("\x1b" in hostile)
    headings = [words(block.spans) for block in blocks(sheet, "loss") if isinstance(block, Paragraph)]
    assert headings == [f"What the model writes after “{pen.plain_text(hostile, run_sheet.NAME_CELLS)}”"]


def test_a_folder_with_any_name(run: Path, tmp_path: Path) -> None:
    folder = run.rename(tmp_path / '"`{{seed}}`": [x] # | 달\n<b')
    sheet = source.read(run_sheet_text(folder, "ko"))
    assert sheet.title == '내 학습 기록: "`{{seed}}`": [x] # | 달 ↲ <b'


@given(st.text())
def test_any_text_reads_back(text: str) -> None:
    pen = Pen(is_plain)
    assert words(inline.line(pen.text(text))) == pen.plain_text(text)
    assert all(is_plain(character) for character in pen.plain_text(text))
    assert json.loads(f'"{pen.yaml_text(text)}"') == pen.plain_text(text)


@given(st.text(alphabet="a `|*", min_size=1).map(str.strip).filter(bool))
def test_any_command_reads_back_as_code(text: str) -> None:
    pen = Pen(is_plain)
    (span,) = inline.line(pen.code(text))
    assert span.code
    assert span.text == pen.plain_text(text)


def test_a_line_is_cut_by_its_width() -> None:
    assert Pen(is_plain).plain_text("가나다라", 6) == "가나다…"
    assert Pen(is_plain).plain_text("가나다", 6) == "가나다"
    assert Pen(lambda sign: sign != "↲").plain_text("a\n\tb") == "a ¶ b"


# Figures as people write them.


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (run_sheet.short_number(999_999), "1M"),
        (run_sheet.short_number(124_439_808), "124M"),
        (run_sheet.short_number(1.5576e9), "1.56B"),
        (run_sheet.short_number(3.929e11, "FLOP/s"), "393 GFLOP/s"),
        (run_sheet.short_number(876, "B"), "876 B"),
        (run_sheet.perplexity(3.91), "49.9"),
        (run_sheet.perplexity(8.371), "4,320"),
        (run_sheet.perplexity(1e6), "e^1M"),
    ],
)
def test_figures(written: str, expected: str) -> None:
    assert written == expected


# It fits its page, whatever the run was.


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("letters", ["W" * 300, "漢 " * 300])
def test_a_large_run_fits_its_page(run: Path, write_run: Callable[..., Path], language: str, letters: str) -> None:
    font = pen_font()
    written = json_reader.read(run / "run.json", dict)
    gpt3 = {"n_layer": 96, "n_head": 96, "n_embd": 12_288, "block_size": 2048, "vocab_size": 50_257, "untied": True}
    written["config"]["model"].update(gpt3)
    written["config"].update(recipe="r" * 99, init="runs/" + "i" * 99, seed=2**53)
    written["config"]["data"].update(paths=["p" * 99, "q" * 99, "r"])
    written["data"]["dir"] = "gone"
    written["machine"]["gpu"] = "NVIDIA H100 80GB HBM3 with a long name"
    files.write_json(run / "run.json", written)
    history = story({0: 10.8, 250: 3.4, 500: 1000.3, 1000: 600.0}, lambda number: 2000 - number)
    samples = [Sample(step=at, time=0.0, prompt=letters, text=letters, seed=0) for at in (0, 250, 1000)]
    skipped = Skipped(step=30, time=0.0, loss=math.inf, grad_norm=math.nan, in_a_row=1)
    large = {"n_params": 175_000_000_000, "batch_tokens": 3_200_000, "processes": 1024, "usd_per_hour": 3200.0}
    folder = write_run(*history, *samples, skipped, steps=1000, peak_flops=1e18, **large)
    folder = folder.rename(folder.with_name("n" * 99))
    for place in render(source.read(run_sheet_text(folder, language)), font=font).places:
        assert place.needs <= place.has
        assert place.scale >= place.smallest


# Both languages say the same, and nothing is computed that no one reads.


def test_the_texts_have_the_same_placeholders_and_all_have_values(run: Path) -> None:
    values = set(run_sheet.values_of(measured.read(run), Pen(is_plain), "en"))
    for language in LANGUAGES:
        assert set(PLACEHOLDER.findall(template("run", language))) == values


# What cannot be drawn says why.


def refused(folder: Path) -> NudgeError:
    with pytest.raises(NudgeError) as caught:
        run_sheet_text(folder, "en")
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        error = refused(folder)
        assert (error.code, error.values["path"]) == ("sheet.no_run", folder)


def test_an_imported_model(run: Path) -> None:
    (run / "run.json").unlink()
    (run / "events.jsonl").unlink()
    assert refused(run).code == "sheet.imported_model"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", "{}", '{"config": 3}', '{"config": {"modle": {}}}', '{"config": {"model": 1}}']
)
def test_a_damaged_run_json(run: Path, content: str) -> None:
    (run / "run.json").write_text(content)
    error = refused(run)
    assert (error.code, error.values["path"]) == ("run.unreadable_json", run / "run.json")


def test_no_evaluation_yet(write_run: Callable[..., Path]) -> None:
    folder = write_run(measure(0, 5.5), step(1, 5.0), step(2, 4.9))
    error = refused(folder)
    assert error.code == "sheet.no_evaluation"
    assert error.values == {"path": folder, "step": 2, "steps": 100, "due": 4}
    with RunFolder(folder).lock():
        assert refused(folder).code == "sheet.wait_for_evaluation"
    assert refused(write_run()).code == "sheet.no_evaluation"


def test_a_run_that_failed_at_step_3(trained: Path, tmp_path: Path) -> None:
    written = json_reader.read(trained / "run.json", dict)["config"]
    config = nudge.recipe("tiny", **{**SMALL, "data": {"paths": written["data"]["paths"], "tokenizer": "bytes"}})
    config = replace(config, train=replace(config.train, lr=1e30, warmup_steps=0))
    for _ in nudge.run(config, tmp_path / "run"):
        pass
    error = refused(tmp_path / "run")
    assert error.code == "sheet.diverged"
    assert error.values["in_a_row"] == 5
    assert "smaller learning rate" in error.hint
