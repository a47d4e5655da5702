"""The standard tasks: how a line of each becomes a context and the answers whose likelihoods are compared.

    line of JSON -> context, answers, which is right -> log-likelihood of each answer -> acc, acc_norm, perplexity

Which text the network sees decides the score, so every space is as in EleutherAI's lm-evaluation-harness 0.4.13
(Source: lm_eval/tasks/{hellaswag,lambada,winogrande,arc,piqa} and ConfigurableTask in lm_eval/api/task.py), without
examples before the question. likelihood.py measures.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nudge.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One line of a task: pairs of a context and a continuation, one pair for each answer.

    `right` is the number of the right pair, `lengths` are the characters of the answers, `where` is file and line.
    """

    pairs: tuple[tuple[str, str], ...]
    right: int
    lengths: tuple[int, ...]
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task by its name, the scores it is known by, and the fields that a line has."""

    name: str
    scores: tuple[str, ...]
    fields: str
    example: "Callable[[Line], Example]"


class Line:
    """The fields of one line, with an error that says which is missing, and which are there."""

    def __init__(self, where: str, task: str, fields: Mapping[str, Any], inside: str = "") -> None:
        self.where, self.task, self.fields, self._inside = where, task, fields, inside

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def text(self, name: str) -> str:
        return self._get(name, str, "a text")

    def texts(self, name: str) -> list[str]:
        return self._list(name, str, "texts")

    def inner(self, name: str) -> "Line":
        return Line(self.where, self.task, self._get(name, dict, "an object"), f"{self._inside}{name}.")

    def lines(self, name: str) -> "list[Line]":
        objects: list[dict[str, Any]] = self._list(name, dict, "objects")
        return [Line(self.where, self.task, one, f"{self._inside}{name}[{i}].") for i, one in enumerate(objects)]

    def one_of(self, name: str, labels: Sequence[str]) -> int:
        """Which of `labels` the field says; a number may stand there as a number or as text."""
        value: object = self._get(name, object, "a label")
        if type(value) not in (int, str) or str(value) not in labels:
            got = json.dumps(value, ensure_ascii=False)[:40]
            raise self.wrong(f"'{self._inside}{name}' is {got}, expected one of {', '.join(labels)}")
        return labels.index(str(value))

    def wrong(self, why: str) -> DataError:
        return DataError(f"{self.where} is no example of {self.task}: {why}", f"a line has {TASKS[self.task].fields}")

    def _get(self, name: str, kind: type[T], described: str) -> T:
        if name not in self.fields:
            found = ", ".join(self.fields) or "none"
            raise self.wrong(f"there is no field '{self._inside}{name}' (the fields here: {found})")
        value = self.fields[name]
        if not isinstance(value, kind):
            raise self.wrong(f"'{self._inside}{name}' is not {described}")
        return value

    def _list(self, name: str, kind: type[T], described: str) -> list[T]:
        values: list[Any] = self._get(name, list, f"a list of {described}")
        if not values or not all(isinstance(value, kind) for value in values):
            raise self.wrong(f"'{self._inside}{name}' is no list of {described}")
        return values


def _choice(line: Line, context: str, answers: Sequence[str], right: int) -> Example:
    """The usual kind: the same context before every answer."""
    return Example(
        pairs=tuple((context, f" {answer}") for answer in answers),
        right=right,
        lengths=tuple(len(answer) for answer in answers),
        where=line.where,
    )


def _hellaswag(line: Line) -> Example:
    """Which ending goes on? Of a context in two parts, the second begins with a capital; `ctx` stays as it is."""
    if "ctx_a" in line:
        begun = line.text("ctx_b") if "ctx_b" in line else ""
        context = f"{line.text('ctx_a')} {begun.capitalize()}"
    else:
        context = line.text("ctx")
    endings = [_without_brackets(ending) for ending in line.texts("endings")]
    right = line.one_of("label", [str(i) for i in range(len(endings))])
    return _choice(line, _without_brackets(f"{line.text('activity_label')}: {context}"), endings, right)


def _without_brackets(text: str) -> str:
    """WikiHow's marks such as [header] and [step], which half of HellaSwag still has, are no words."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def _lambada(line: Line) -> Example:
    """Which word is the last? One answer: it is right if it is what the network itself would write."""
    text = line.text("text") if "text" in line else f"{line.text('context')} {line.text('continuation').lstrip(' ')}"
    context, _, word = text.rpartition(" ")
    return _choice(line, context, [word], right=0)


def _winogrande(line: Line) -> Example:
    """Whom does the gap mean? Partial evaluation (Source: Trinh and Le 2018): each name is put into the gap, and only
    what comes after it is scored, which is the same text."""
    before, gap, after = line.text("sentence").partition("_")
    if not gap:
        raise line.wrong("'sentence' has no gap _")
    right = line.one_of("answer", ["1", "2"])
    pairs = tuple((before + line.text(name), f" {after.strip()}") for name in ("option1", "option2"))
    return Example(pairs=pairs, right=right, lengths=(len(after.strip()),) * 2, where=line.where)


def _arc(line: Line) -> Example:
    """A question of a school's science test; its answers named as on the Hub, or as in AI2's own release."""
    if isinstance(line.fields.get("question"), dict):
        question = line.inner("question")
        asked, choices = question.text("stem"), question.lines("choices")
        answers, labels = ([choice.text(name) for choice in choices] for name in ("text", "label"))
    else:
        asked, listed = line.text("question"), line.inner("choices")
        answers, labels = listed.texts("text"), listed.texts("label")
    if len(answers) != len(labels):
        raise line.wrong(f"'choices' has {len(answers)} texts and {len(labels)} labels")
    return _choice(line, f"Question: {asked}\nAnswer:", answers, line.one_of("answerKey", labels))


def _piqa(line: Line) -> Example:
    """Which of two ways leads to the goal?"""
    ways = [line.text("sol1"), line.text("sol2")]
    return _choice(line, f"Question: {line.text('goal')}\nAnswer:", ways, line.one_of("label", ["0", "1"]))


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
    """The examples of a file of JSON lines, or its first `limit`.

    Raises: DataError for a file that cannot be read or is empty, and a line that is no example of this task.
    """
    examples = []
    for where, fields in _objects(path):
        examples.append(task.example(Line(where, task.name, fields)))
        if len(examples) == limit:
            break
    if not examples:
        raise DataError(f"{path} is empty", f"expected lines of JSON: a line has {task.fields}")
    return examples


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object of a file of JSON lines and where it stands, with the label that PIQA's release keeps beside it."""
    labels = path.with_name(f"{path.stem}-labels.lst")
    try:
        beside = labels.read_text(encoding="utf-8").split() if labels.is_file() else []
        with path.open(encoding="utf-8") as lines:
            number = 0
            for place, line in enumerate(lines, start=1):
                if line.isspace():
                    continue
                fields = _object(f"{path}, line {place}", line)
                if number < len(beside):
                    fields.setdefault("label", beside[number])
                number += 1
                yield f"{path}, line {place}", fields
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "check the path and its permissions") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8 (byte {error.start})", "give a file of JSON lines") from error


def _object(where: str, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {error}", "give a file with one JSON object a line") from error
    if not isinstance(value, dict):
        raise DataError(f"{where} is no JSON object", "give a file with one JSON object a line")
    return value
