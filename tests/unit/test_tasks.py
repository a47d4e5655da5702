"""How a line of each standard task becomes a context and answers: written out by hand, every space counts."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.refusals import refused

from nudge.eval.tasks import TASKS, Example, read


def example(task: str, folder: Path, line: dict[str, Any]) -> Example:
    path = folder / "task.jsonl"
    path.write_text(json.dumps(line) + "\n", encoding="utf-8")
    (one,) = read(TASKS[task], path)
    return one


HELLASWAG = {
    "activity_label": "Baking bread",
    "ctx": "Two bakers stand at a table. they",
    "endings": ["knead the dough.", "drive away [substeps] in a  car."],
    "label": 1,
}


def test_hellaswag_with_the_context_in_one_piece(tmp_path: Path):
    one = example("hellaswag", tmp_path, HELLASWAG)
    context = "Baking bread: Two bakers stand at a table. they"
    assert one.pairs == ((context, " knead the dough."), (context, " drive away in a car."))
    assert (one.right, one.lengths) == (1, (16, 20))


def test_hellaswag_with_the_context_in_two_pieces(tmp_path: Path):
    parts = {"ctx_a": "Two bakers stand at a table.", "ctx_b": "they Both smile", "label": "0"}
    one = example("hellaswag", tmp_path, HELLASWAG | parts)
    assert one.pairs[0][0] == "Baking bread: Two bakers stand at a table. They both smile"
    assert one.right == 0


def test_hellaswag_loses_the_marks_of_wikihow(tmp_path: Path):
    # The second piece is empty, or not there at all; a title ends what stands before it.
    for parts in ({"ctx_b": ""}, {}):
        line = HELLASWAG | {"ctx_a": "[header] How to rest [title] Lie down. [step] Close  both eyes. "} | parts
        one = example("hellaswag", tmp_path, line)
        assert one.pairs[0][0] == "Baking bread: How to rest. Lie down. Close both eyes."


def test_lambada_asks_for_the_last_word(tmp_path: Path):
    text = {"text": "The lamp was out. Nobody had\nbrought another lamp"}
    pair = ("The lamp was out. Nobody had\nbrought another", " lamp")
    assert example("lambada", tmp_path, text).pairs == (pair,)
    for continuation in ("lamp", " lamp"):
        parts = {"context": pair[0], "continuation": continuation}
        assert example("lambada", tmp_path, parts).pairs == (pair,)
    assert example("lambada", tmp_path, {"text": "Alone"}).pairs == (("", " Alone"),)


def test_winogrande_scores_what_comes_after_the_gap(tmp_path: Path):
    sentence = {"sentence": "The cup missed the shelf because the _ was too low. It broke.", "answer": "2"}
    one = example("winogrande", tmp_path, sentence | {"option1": "cup", "option2": "shelf"})
    after = " was too low. It broke."
    assert one.pairs == (
        ("The cup missed the shelf because the cup", after),
        ("The cup missed the shelf because the shelf", after),
    )
    assert one.right == 1


ARC = {
    "question": "What melts in the sun?",
    "choices": {"text": ["ice", "a stone", "sand"], "label": ["A", "B", "C"]},
    "answerKey": "A",
}


def test_arc_as_on_the_hub_and_as_released(tmp_path: Path):
    one = example("arc_easy", tmp_path, ARC)
    context = "Question: What melts in the sun?\nAnswer:"
    assert one.pairs == ((context, " ice"), (context, " a stone"), (context, " sand"))
    assert (one.right, one.lengths) == (0, (3, 7, 4))
    choices = [{"text": "ice", "label": "1"}, {"text": "a stone", "label": "2"}, {"text": "sand", "label": "3"}]
    released = {"id": "x", "question": {"stem": "What melts in the sun?", "choices": choices}, "answerKey": "3"}
    other = example("arc_easy", tmp_path, released)
    assert (other.pairs, other.right) == (one.pairs, 2)


@pytest.mark.parametrize(
    ("labels", "key", "right"),
    [("1234", "3", 2), ("1234", 2, 1), ("ABCDE", "E", 4), ("AB", "A", 0), ("12345", 5, 4)],
)
def test_arc_has_questions_with_numbers_for_letters_and_with_more_choices(
    tmp_path: Path, labels: str, key: object, right: int
):
    choices = {"text": [f"answer {label}" for label in labels], "label": list(labels)}
    assert example("arc_easy", tmp_path, ARC | {"choices": choices, "answerKey": key}).right == right


def test_the_length_of_an_answer_is_its_characters(tmp_path: Path):
    """As in lm-evaluation-harness, which divides by len() of the string: not bytes, not tokens."""
    one = example("arc_easy", tmp_path, ARC | {"choices": {"text": ["얼음", "🧊", "ice"], "label": ["A", "B", "C"]}})
    assert one.lengths == (2, 1, 3)


PIQA = {"goal": "keep bread soft", "sol1": "leave it in the sun.", "sol2": "wrap it in a cloth."}


def test_piqa(tmp_path: Path):
    one = example("piqa", tmp_path, PIQA | {"label": 1})
    context = "Question: keep bread soft\nAnswer:"
    assert one.pairs == ((context, " leave it in the sun."), (context, " wrap it in a cloth."))
    assert one.right == 1


def test_piqa_finds_its_labels_beside(tmp_path: Path):
    file = tmp_path / "valid.jsonl"
    file.write_text(f"{json.dumps(PIQA)}\n\n{json.dumps(PIQA)}\n")
    (tmp_path / "valid-labels.lst").write_text("1\n0\n")
    assert [one.right for one in read(TASKS["piqa"], file)] == [1, 0]


def test_a_limit_takes_the_first(tmp_path: Path):
    file = tmp_path / "task.jsonl"
    file.write_text("".join(json.dumps({"text": f"one of {i}"}) + "\n" for i in range(5)) + "no JSON")
    assert [one.pairs[0][1] for one in read(TASKS["lambada"], file, 2)] == [" 0", " 1"]


WRONG = {
    "winogrande": {"sentence": "The _ fell.", "option1": "cup", "option2": "plate", "answer": "1"},
    "hellaswag": HELLASWAG,
    "arc_easy": ARC,
    "piqa": PIQA | {"label": 0},
    "lambada": {"context": "a stone and a", "continuation": "stone"},
}


@pytest.mark.parametrize(
    ("task", "change", "error"),
    [
        ("hellaswag", {"label": 2}, "'label' is 2, expected one of 0, 1"),
        ("hellaswag", {"label": -1}, "'label' is -1, expected one of 0, 1"),
        ("hellaswag", {"label": ""}, "'label' is '', expected one of 0, 1"),
        ("hellaswag", {"label": True}, "'label' is true or false, expected a whole number or text"),
        ("hellaswag", {"label": None}, "'label' is null, expected a whole number or text"),
        ("hellaswag", {"label": ...}, "'label' is missing"),
        ("hellaswag", {"ctx": ...}, "'ctx' is missing"),
        ("hellaswag", {"ctx": 5}, "'ctx' is a whole number, expected text or null"),
        ("hellaswag", {"endings": []}, "there are no answers"),
        ("hellaswag", {"endings": ["a", 2]}, "'endings[1]' is a whole number, expected text"),
        ("hellaswag", {"endings": "a"}, "'endings' is text, expected a list"),
        ("lambada", {"continuation": ...}, "'text' is missing"),
        ("winogrande", {"sentence": "The cup fell."}, "'sentence' has no gap _"),
        ("winogrande", {"answer": "3"}, "'answer' is '3', expected one of 1, 2"),
        ("arc_easy", {"answerKey": "D"}, "'answerKey' is 'D', expected one of A, B, C"),
        ("arc_easy", {"choices": {"text": ["a"]}}, "'choices.label' is missing"),
        ("arc_easy", {"choices": {"text": ["a"], "label": ["A", "B"]}}, "'choices' has 1 texts and 2 labels"),
        ("arc_easy", {"choices": ["a"]}, "'choices' is a list, expected an object or null"),
        ("arc_easy", {"choices": ...}, "'choices' is missing"),
        (
            "arc_easy",
            {"question": {"stem": "Why?", "choices": ["a"]}},
            "'question.choices[0]' is text, expected an object",
        ),
        ("arc_easy", {"question": {"stem": "Why?", "choices": [{}]}}, "'question.choices[0].text' is missing"),
        ("piqa", {"label": ...}, "'label' is missing"),
        ("piqa", {"sol2": ...}, "'sol2' is missing"),
    ],
)
def test_a_line_that_is_no_example(tmp_path: Path, task: str, change: dict[str, Any], error: str):
    line = {name: value for name, value in (WRONG[task] | change).items() if value is not ...}
    with refused("data.task_line", place=f"{tmp_path / 'task.jsonl'}:1", error=error) as caught:
        example(task, tmp_path, line)
    assert TASKS[task].fields in caught.value.hint


@pytest.mark.parametrize(
    ("content", "code", "values"),
    [
        (b"", "no_examples", {"expected": TASKS["lambada"].fields}),
        (b"\n \n", "no_examples", {}),
        (b'{"text": "a b"}\n{"text": ', "task_line", {"line": 2}),
        (b'{"text": "a b"}\n["a"]', "task_line", {"line": 2, "error": "it is a list, expected an object"}),
        (b"[" * 100_000, "task_line", {"line": 1}),
        (b'{"text": "caf\xe9 b"}', "task_line", {"line": 1}),
    ],
)
def test_a_file_that_is_no_task(tmp_path: Path, content: bytes, code: str, values: dict[str, Any]):
    path = tmp_path / "task.jsonl"
    path.write_bytes(content)
    place = {"place": f"{path}:{values.pop('line')}"} if "line" in values else {"path": path}
    with refused(f"data.{code}", **place, **values):
        read(TASKS["lambada"], path)


def test_a_file_that_is_not_there(tmp_path: Path):
    with refused("data.unreadable", path=tmp_path / "nowhere.jsonl", error="there is no such file"):
        read(TASKS["lambada"], tmp_path / "nowhere.jsonl")
    with refused("data.unreadable", path=tmp_path):
        read(TASKS["lambada"], tmp_path)
