"""The standard tasks: they turn a line of JSON into a context and answers whose likelihoods are compared.

    line of JSON -> context, answers, which is right -> log-likelihood of each answer -> acc, acc_norm, perplexity

The score depends on the exact text, so every space is as in EleutherAI's lm-evaluation-harness 0.4.13 (Source:
lm_eval/tasks/{hellaswag,lambada,winogrande,arc,piqa} and ConfigurableTask in lm_eval/api/task.py), without examples
before the question. likelihood.py computes the likelihoods.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nudge.errors import DataError, first_line

T = TypeVar("T")
_JSON_TYPES: dict[type, str] = {str: "string", list: "array", dict: "object"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One line of a task."""

    pairs: tuple[tuple[str, str], ...]  # (context, continuation) of each answer
    right: int  # the index of the right pair
    lengths: tuple[int, ...]  # of the answers, in characters
    where: str  # file and line


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A standard task."""

    name: str
    scores: tuple[str, ...]  # as papers report them
    fields: str  # the fields of a line, for error messages
    example: "Callable[[Line], Example]"  # builds an example from a line


class Line:
    """The fields of one line. A missing or wrong field raises a DataError; `expected` lists the task's fields."""

    def __init__(self, where: str, expected: str, fields: Mapping[str, Any], inside: str = "") -> None:
        self.where, self.expected, self.fields, self._inside = where, expected, fields, inside

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def text(self, name: str) -> str:
        return self._get(name, str)

    def texts(self, name: str) -> list[str]:
        return self._list(name, str)

    def inner(self, name: str) -> "Line":
        return Line(self.where, self.expected, self._get(name, dict), f"{self._inside}{name}.")

    def lines(self, name: str) -> "list[Line]":
        objects: list[dict[str, Any]] = self._list(name, dict)
        return [Line(self.where, self.expected, one, f"{self._inside}{name}[{i}].") for i, one in enumerate(objects)]

    def one_of(self, name: str, labels: Sequence[str]) -> int:
        """Return the index of the field's value in `labels`; the value may be a number or text."""
        value: object = self._get(name, object)
        if type(value) not in (int, str) or str(value) not in labels:
            got, known = json.dumps(value, ensure_ascii=False)[:40], ", ".join(labels)
            raise DataError("task_label", field=self._inside + name, got=got, known=known, expected=self.expected)
        return labels.index(str(value))

    def _get(self, name: str, kind: type[T]) -> T:
        if name not in self.fields:
            raise DataError(
                "task_field_missing", field=self._inside + name, found=", ".join(self.fields), expected=self.expected
            )
        value = self.fields[name]
        if not isinstance(value, kind):
            raise DataError(
                "task_field_type", field=self._inside + name, type=_JSON_TYPES[kind], expected=self.expected
            )
        return value

    def _list(self, name: str, kind: type[T]) -> list[T]:
        values: list[Any] = self._get(name, list)
        if not values or not all(isinstance(value, kind) for value in values):
            raise DataError("task_list", field=self._inside + name, type=_JSON_TYPES[kind], expected=self.expected)
        return values


def _multiple_choice(line: Line, context: str, answers: Sequence[str], right: int) -> Example:
    """Return an example with the same context before every answer."""
    return Example(
        pairs=tuple((context, f" {answer}") for answer in answers),
        right=right,
        lengths=tuple(len(answer) for answer in answers),
        where=line.where,
    )


def _hellaswag(line: Line) -> Example:
    """Read one HellaSwag question: pick the ending that continues the text.

    Capitalize `ctx_b` and append it to `ctx_a`; without `ctx_a`, use `ctx` unchanged.
    """
    if "ctx_a" in line:
        start_of_ending = line.text("ctx_b") if "ctx_b" in line else ""
        context = f"{line.text('ctx_a')} {start_of_ending.capitalize()}"
    else:
        context = line.text("ctx")
    endings = [_without_brackets(ending) for ending in line.texts("endings")]
    right = line.one_of("label", [str(i) for i in range(len(endings))])
    return _multiple_choice(line, _without_brackets(f"{line.text('activity_label')}: {context}"), endings, right)


def _without_brackets(text: str) -> str:
    """Remove WikiHow's marks such as [header] and [step], which half of the HellaSwag questions have."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def _lambada(line: Line) -> Example:
    """Read one LAMBADA question: write the last word of the text."""
    text = line.text("text") if "text" in line else f"{line.text('context')} {line.text('continuation').lstrip(' ')}"
    context, _, word = text.rpartition(" ")
    return _multiple_choice(line, context, [word], right=0)


def _winogrande(line: Line) -> Example:
    """Read one WinoGrande question: pick the name that fits the gap.

    Each name is put into the gap, and only the text after the gap is scored, which is equal for both. Source: Trinh and
    Le 2018, "partial evaluation".
    """
    before, gap, after = line.text("sentence").partition("_")
    if not gap:
        raise DataError("task_gap", expected=line.expected)
    right = line.one_of("answer", ["1", "2"])
    pairs = tuple((before + line.text(name), f" {after.strip()}") for name in ("option1", "option2"))
    return Example(pairs=pairs, right=right, lengths=(len(after.strip()),) * 2, where=line.where)


def _arc(line: Line) -> Example:
    """Read one ARC question, from a school science test, in the format of the Hub or of AI2's release."""
    if isinstance(line.fields.get("question"), dict):
        question = line.inner("question")
        stem, choices = question.text("stem"), question.lines("choices")
        answers, labels = ([choice.text(name) for choice in choices] for name in ("text", "label"))
    else:
        stem, listed = line.text("question"), line.inner("choices")
        answers, labels = listed.texts("text"), listed.texts("label")
    if len(answers) != len(labels):
        raise DataError("task_choices", texts=len(answers), labels=len(labels), expected=line.expected)
    return _multiple_choice(line, f"Question: {stem}\nAnswer:", answers, line.one_of("answerKey", labels))


def _piqa(line: Line) -> Example:
    """Read one PIQA question: pick the way that leads to the goal."""
    ways = [line.text("sol1"), line.text("sol2")]
    return _multiple_choice(line, f"Question: {line.text('goal')}\nAnswer:", ways, line.one_of("label", ["0", "1"]))


ACCURACIES = ("acc", "acc_norm")
TASKS = {
    task.name: task
    for task in (
        Task(
            name="hellaswag",
            scores=ACCURACIES,
            fields="activity_label, ctx_a with ctx_b (or ctx), endings, label (0, 1, ...)",
            example=_hellaswag,
        ),
        Task(
            name="lambada",
            scores=("acc", "perplexity"),
            fields="text whose last word is asked for (or context, continuation)",
            example=_lambada,
        ),
        Task(
            name="winogrande",
            scores=("acc",),
            fields="sentence with a gap _, option1, option2, answer (1 or 2)",
            example=_winogrande,
        ),
        Task(
            name="arc_easy",
            scores=ACCURACIES,
            fields="question, choices with text and label, answerKey",
            example=_arc,
        ),
        Task(
            name="piqa",
            scores=ACCURACIES,
            fields="goal, sol1, sol2, label (0 or 1; PIQA's own release has them in a file NAME-labels.lst beside)",
            example=_piqa,
        ),
    )
}


def read(task: Task, path: Path, limit: int | None = None) -> list[Example]:
    """Read the examples of a file of JSON lines, or its first `limit` examples.

    Raises: DataError for a file that is unreadable or empty, or a line that is not an example of this task.
    """
    examples = []
    for where, fields in _read_objects(path):
        try:
            examples.append(task.example(Line(where, task.fields, fields)))
        except DataError as error:
            raise error.within(f"{where}: ") from None
        if len(examples) == limit:
            break
    if not examples:
        raise DataError("no_examples", path=path, expected=task.fields)
    return examples


def _read_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place and fields of each JSON line, adding PIQA's label from `NAME-labels.lst` if that file exists."""
    label_file = path.with_name(f"{path.stem}-labels.lst")
    try:
        labels = iter(label_file.read_text(encoding="utf-8").split() if label_file.is_file() else ())
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.isspace():
                    where = f"{path}:{number}"
                    fields = _parse_object(where, line)
                    if (label := next(labels, None)) is not None:
                        fields.setdefault("label", label)
                    yield where, fields
    except OSError as error:
        raise DataError("unreadable", path=path, error=error.strerror) from error
    except UnicodeDecodeError as error:
        raise DataError("task_not_utf8", path=path, position=error.start) from error


def _parse_object(where: str, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError("task_not_json", place=where, error=first_line(error)) from error
    if not isinstance(value, dict):
        raise DataError("task_not_an_object", place=where)
    return value
