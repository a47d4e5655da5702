"""What a program that uses nudge relies on: the names of the package and the tree of its errors."""

import inspect
import pickle

import pytest

import nudge
from nudge import errors

OURS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", OURS)
def test_every_error_stands_in_the_tree_and_crosses_processes(kind: type[errors.NudgeError]):
    assert issubclass(kind, nudge.NudgeError)
    assert kind.__name__ in (errors.__doc__ or "")
    error = pickle.loads(pickle.dumps(kind("expected 3, got 4", "type 3")))
    assert (type(error), error.message, error.hint) == (kind, "expected 3, got 4", "type 3")


@pytest.mark.parametrize("name", nudge.__all__)
def test_every_public_name_is_there_and_documented(name: str):
    assert inspect.getdoc(getattr(nudge, name))
    assert name in dir(nudge)


def test_an_unknown_name_is_an_ordinary_attribute_error():
    with pytest.raises(AttributeError, match="trian"):
        nudge.trian  # noqa: B018
