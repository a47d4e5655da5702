"""What a program that uses nudge relies on: the names of the package and the tree of its errors."""

import inspect
import json
import pickle
import string
from pathlib import Path

import pytest

import nudge
from nudge import errors

OURS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", [kind for kind in OURS if kind is not errors.NudgeError])
def test_every_error_stands_in_the_tree_and_crosses_processes(kind: type[errors.NudgeError]):
    assert issubclass(kind, nudge.NudgeError)
    assert kind.__name__ in (errors.__doc__ or "")
    name, wording = next(iter(errors.catalog()[kind.family].items()))
    values = {field: 3 for text in wording.values() for _, field, *_ in string.Formatter().parse(text) if field}
    error = kind(name, **values).within("here: ")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.code, again.message, again.hint) == (f"{kind.family}.{name}", error.message, error.hint)
    assert again.message.startswith("here: ")
    told = errors.from_json(json.loads(json.dumps(errors.to_json(error))))
    assert (told.code, told.message, told.hint, told.values) == (again.code, again.message, again.hint, values)


def test_a_path_is_told_as_a_path():
    error = errors.RunError("folder_taken", path=Path("my runs"))
    told = errors.from_json(json.loads(json.dumps(errors.to_json(error))))
    assert (told.message, told.hint) == (error.message, error.hint)
    assert "'my runs'" in told.hint


@pytest.mark.parametrize("name", nudge.__all__)
def test_every_public_name_is_there_and_documented(name: str):
    assert inspect.getdoc(getattr(nudge, name))
    assert name in dir(nudge)


def test_an_unknown_name_is_an_ordinary_attribute_error():
    with pytest.raises(AttributeError, match="trian"):
        nudge.trian  # noqa: B018
