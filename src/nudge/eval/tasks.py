"""The standard tasks: they turn a line of JSON into a context and answers whose likelihoods are compared.

    line of JSON -> context, answers, which is right -> log-likelihood of each answer -> acc, acc_norm, perplexity

The score depends on the exact text, so every space is as in EleutherAI's lm-evaluation-harness 0.4.13 (Source:
lm_eval/tasks/{hellaswag,lambada,winogrande,arc,piqa} and ConfigurableTask in lm_eval/api/task.py), without examples
before the question. likelihood.py computes the likelihoods.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nudge.errors import DataError, first_line
from nudge.util import files, json_reader


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
    line: type[Any]  # the fields of a line
    example: Callable[[Any, str], Example]  # builds an example from a line and its place


def _multiple_choice(where: str, context: str, answers: Sequence[str], right: int) -> Example:
    """Return an example with the same context before every answer."""
    return Example(
        pairs=tuple((context, f" {answer}") for answer in answers),
        right=right,
        lengths=tuple(len(answer) for answer in answers),
        where=where,
    )


def _one_of(name: str, value: int | str, labels: Sequence[str]) -> int:
    """Return the index of a value in `labels`; it may be a number or text."""
    if not labels:
        raise ValueError("there are no answers")
    if str(value) not in labels:
        raise ValueError(f"'{name}' is {value!r}, expected one of {', '.join(labels)}")
    return labels.index(str(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class _HellaSwag:
    activity_label: str
    endings: list[str]
    label: int | str
    ctx: str | None = None
    ctx_a: str | None = None
    ctx_b: str = ""


def _hellaswag(line: _HellaSwag, where: str) -> Example:
    """Read one HellaSwag question: pick the ending that continues the text.

    Capitalize `ctx_b` and append it to `ctx_a`; without `ctx_a`, use `ctx` unchanged.
    """
    context = line.ctx if line.ctx_a is None else f"{line.ctx_a} {line.ctx_b.capitalize()}"
    if context is None:
        raise ValueError("'ctx' is missing")
    endings = [_without_brackets(ending) for ending in line.endings]
    right = _one_of("label", line.label, [str(i) for i in range(len(endings))])
    return _multiple_choice(where, _without_brackets(f"{line.activity_label}: {context}"), endings, right)


def _without_brackets(text: str) -> str:
    """Remove WikiHow's marks such as [header] and [step], which half of the HellaSwag questions have."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lambada:
    text: str | None = None
    context: str | None = None
    continuation: str | None = None


def _lambada(line: _Lambada, where: str) -> Example:
    """Read one LAMBADA question: write the last word of the text."""
    text = line.text
    if text is None:
        if line.context is None or line.continuation is None:
            raise ValueError("'text' is missing")
        text = f"{line.context} {line.continuation.lstrip(' ')}"
    context, _, word = text.rpartition(" ")
    return _multiple_choice(where, context, [word], right=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _WinoGrande:
    sentence: str
    option1: str
    option2: str
    answer: int | str


def _winogrande(line: _WinoGrande, where: str) -> Example:
    """Read one WinoGrande question: pick the name that fits the gap.

    Each name is put into the gap, and only the text after the gap is scored, which is equal for both. Source: Trinh and
    Le 2018, "partial evaluation".
    """
    before, gap, after = line.sentence.partition("_")
    if not gap:
        raise ValueError("'sentence' has no gap _")
    right = _one_of("answer", line.answer, ["1", "2"])
    pairs = tuple((before + option, f" {after.strip()}") for option in (line.option1, line.option2))
    return Example(pairs=pairs, right=right, lengths=(len(after.strip()),) * 2, where=where)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choices:
    text: list[str]
    label: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    text: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    stem: str
    choices: list[_Choice]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arc:
    question: str | _Question
    answerKey: int | str  # noqa: N815 - as the file has it
    choices: _Choices | None = None


def _arc(line: _Arc, where: str) -> Example:
    """Read one ARC question, from a school science test, in the format of the Hub or of AI2's release."""
    if isinstance(line.question, _Question):
        stem, choices = line.question.stem, line.question.choices
        answers, labels = [choice.text for choice in choices], [choice.label for choice in choices]
    elif line.choices is not None:
        stem, answers, labels = line.question, line.choices.text, line.choices.label
    else:
        raise ValueError("'choices' is missing")
    if len(answers) != len(labels):
        raise ValueError(f"'choices' has {len(answers)} texts and {len(labels)} labels")
    return _multiple_choice(where, f"Question: {stem}\nAnswer:", answers, _one_of("answerKey", line.answerKey, labels))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piqa:
    goal: str
    sol1: str
    sol2: str
    label: int | str


def _piqa(line: _Piqa, where: str) -> Example:
    """Read one PIQA question: pick the way that leads to the goal."""
    right = _one_of("label", line.label, ["0", "1"])
    return _multiple_choice(where, f"Question: {line.goal}\nAnswer:", [line.sol1, line.sol2], right)


ACCURACIES = ("acc", "acc_norm")
TASKS = {
    task.name: task
    for task in (
        Task(
            name="hellaswag",
            scores=ACCURACIES,
            fields="activity_label, ctx_a with ctx_b (or ctx), endings, label (0, 1, ...)",
            line=_HellaSwag,
            example=_hellaswag,
        ),
        Task(
            name="lambada",
            scores=("acc", "perplexity"),
            fields="text whose last word is asked for (or context, continuation)",
            line=_Lambada,
            example=_lambada,
        ),
        Task(
            name="winogrande",
            scores=("acc",),
            fields="sentence with a gap _, option1, option2, answer (1 or 2)",
            line=_WinoGrande,
            example=_winogrande,
        ),
        Task(
            name="arc_easy",
            scores=ACCURACIES,
            fields="question, choices with text and label, answerKey",
            line=_Arc,
            example=_arc,
        ),
        Task(
            name="piqa",
            scores=ACCURACIES,
            fields="goal, sol1, sol2, label (0 or 1; PIQA's own release has them in a file NAME-labels.lst beside)",
            line=_Piqa,
            example=_piqa,
        ),
    )
}


def read(task: Task, path: Path, limit: int | None = None) -> list[Example]:
    """Read the examples of a file of JSON lines, or its first `limit` examples.

    Raises: DataError for a file that is unreadable or empty, or a line that is not an example of this task.
    """
    if not files.is_file(path):
        raise DataError("unreadable", path=path, error="there is no such file")
    label_file = path.with_name(f"{path.stem}-labels.lst")  # of PIQA
    labels = iter(label_file.read_text(encoding="utf-8-sig", errors="replace").split() if label_file.is_file() else ())
    examples: list[Example] = []
    for number, line in enumerate(json_reader.lines(path), start=1):
        if line.isspace():
            continue
        place = f"{path}:{number}"
        try:
            fields = json_reader.convert(json_reader.parse(line), dict[str, Any])
            if (label := next(labels, None)) is not None:
                fields.setdefault("label", label)
            examples.append(task.example(json_reader.convert(fields, task.line), place))
        except ValueError as error:
            raise DataError("task_line", place=place, error=first_line(error), expected=task.fields) from error
        if len(examples) == limit:
            break
    if not examples:
        raise DataError("no_examples", path=path, expected=task.fields)
    return examples
