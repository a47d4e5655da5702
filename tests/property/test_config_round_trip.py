"""Whatever a person sets, by command line, TOML or JSON, comes out as it went in."""

import json
import string
import types
import typing

from hypothesis import given
from hypothesis import strategies as st

from nudge import config as configs
from nudge.config import Config

# Text that the command line hands over as it is: outer spaces are trimmed there, and "none" means no value.
WORDS = st.text(string.ascii_letters + string.digits + "=.,/_ 가나다", max_size=20).map(str.strip)
VALUES: dict[object, st.SearchStrategy[object]] = {
    int: st.integers(-(2**53), 2**53),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    str: WORDS.filter(lambda word: word != "none"),
}


def values_of(hint: object) -> st.SearchStrategy[object]:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return st.one_of(*map(values_of, typing.get_args(hint)))
    if typing.get_origin(hint) is typing.Literal:
        return st.sampled_from(typing.get_args(hint))
    if hint == tuple[str, ...]:
        return st.lists(VALUES[str]).map(tuple)
    return st.none() if hint is type(None) else VALUES[hint]


def hint_of(key: str) -> object:
    owner: type = Config
    *sections, name = key.split(".")
    for section in sections:
        owner = typing.get_type_hints(owner)[section]
    return typing.get_type_hints(owner)[name]


KEYS = configs.keys()
SETTINGS = {key: values_of(hint_of(key)) for key in KEYS}
SOME = st.fixed_dictionaries({}, optional=SETTINGS)


def nested(settings: dict[str, object]) -> dict[str, object]:
    tables: dict[str, object] = {}
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        if section:
            tables.setdefault(section, {})[name] = value  # type: ignore[index]
        else:
            tables[name] = value
    return tables


def read(config: Config, key: str) -> object:
    value: object = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


@given(SOME)
def test_override_sets_what_is_given_and_nothing_else(settings):
    config = configs.override(Config(), nested(settings))
    assert {key: read(config, key) for key in KEYS} == {key: settings.get(key, read(Config(), key)) for key in KEYS}


@given(SOME)
def test_json_round_trip(settings):
    config = configs.override(Config(), nested(settings))
    assert configs.from_dict(json.loads(json.dumps(configs.to_dict(config)))) == config


@given(
    st.sampled_from([key for key in SETTINGS if key != "data.paths"]).flatmap(
        lambda key: st.tuples(st.just(key), SETTINGS[key])
    )
)
def test_the_command_line_says_the_same(setting):
    key, value = setting
    typed = configs.override(Config(), configs.parse_settings([f"{key}={'none' if value is None else value}"]))
    assert read(typed, key) == value
