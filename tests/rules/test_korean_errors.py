"""Every error that the studio can show is also in Korean, with the same values and the same commands."""

import dataclasses
import re
import string

import pytest
from tests.rules.test_error_codes import ROOT, code, raised
from tests.rules.test_hints import COMMAND, PACKAGE, SETTING

from nudge import config as configs
from nudge import errors
from nudge.sheet.blocks import NAMES
from nudge.studio.words import Words
from nudge.studio.words import errors as translated
from nudge.train.loop import DIVERGED_HINT

# Modules whose errors no page can show, and why. Pages call the rest of the package, or start `nudge train`.
ONLY_IN_A_TERMINAL = (
    *("cli/" + name for name in ("bench", "eval", "import_export", "inspect", "launch", "plan", "prompts", "runs")),
    *("cli/" + name for name in ("sheet", "studio", "tokenizer")),  # commands that the studio does not start
    *("bench/", "launch/", "convert/import_export.py", "convert/source.py"),  # behind such commands
    *("convert/formats/" + name for name in ("__init__", "gguf", "llmc", "nanogpt", "tokenizer_json")),  # likewise
    "eval/",  # behind `nudge eval`: a run measures its own text
    "distributed/",  # several processes: the studio starts one
    "estimate/calibration.py",  # behind `nudge plan --calibrate`
    *("studio/keys.py", "studio/server.py"),  # before there is a page
)

KOREAN = {family: names for family, names in translated("ko").items() if family != "phrases"}
CODES = [(family, name) for family, names in KOREAN.items() for name in names]


def test_each_error_that_a_page_can_show_is_translated():
    shown = {
        code(call)
        for place, call in raised()
        if not place.startswith(tuple(f"src/nudge/{one}" for one in ONLY_IN_A_TERMINAL))
    }
    assert len(shown) > 300
    assert not shown - set(CODES)


def fields(text: str) -> set[tuple[str, str, str]]:
    """The placeholders of a text, with what is done to their values."""
    return {(name, how or "", spec or "") for _, name, spec, how in string.Formatter().parse(text) if name is not None}


def typed(text: str) -> set[str]:
    """What a user types of a hint: commands, settings, options and packages."""
    found = {match[1] or match[2] for match in COMMAND.finditer(text)}
    return found | {match[0].rstrip("',; ") for kind in (SETTING, PACKAGE) for match in kind.finditer(text)}


def options(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))  # not as OPTION: a Korean particle may follow


@pytest.mark.parametrize(("family", "name"), CODES, ids=lambda value: value)
def test_a_translation_says_the_same(family: str, name: str):
    english, korean = errors.catalog()[family][name], KOREAN[family][name]
    assert korean.keys() == english.keys()
    for part in english:
        assert fields(korean[part]) == fields(english[part])
    assert not [text for text in typed(english["hint"]) if text not in korean["hint"]]
    assert options(korean["hint"]) == options(english["hint"])


@pytest.mark.parametrize(("family", "name"), CODES, ids=lambda value: value)
def test_no_particle_depends_on_a_value(family: str, name: str):
    for text in KOREAN[family][name].values():
        # After a value, these would be right only for some values; "이" of "이고" and "입니다" is no particle.
        assert not re.search(r"\}['”’]*(은|는|을|를|과|와|으로|로|이|가|아|야)(?![가-힣])", text)
        assert not re.search(r"은\(는\)|을\(를\)|\(으\)로|이\(가\)|과\(와\)", text)


def test_errors_are_in_order():
    assert sorted(CODES) == CODES


def is_korean(text: str) -> bool:
    return bool(re.search("[가-힣]", text))


def test_what_errors_say_of_settings_and_sheets_is_translated():
    phrase = Words("ko").phrase
    sections = [getattr(configs.Config(), part.name) for part in dataclasses.fields(configs.Config)]
    declared = [field for part in sections if dataclasses.is_dataclass(part) for field in dataclasses.fields(part)]
    within = {field.metadata["within"] for field in declared if field.metadata}
    assert len(within) > 3
    said = [configs._describe_interval(one) for one in within] + list(configs._TYPES.values())
    said += [name for name in NAMES.values() if name != "HTML"]
    for source in (ROOT / "src" / "nudge" / "sheet").glob("*.py"):  # what stands for {what}
        said += re.findall(r', "((?:a|an|the) [a-z ]+)"[,)]', source.read_text(encoding="utf-8"))
    assert "a tick" in said
    said += [errors.did_you_mean("tinny", ["tiny", "mini"]), errors.did_you_mean("x", ["tiny", "mini"])]
    said += [DIVERGED_HINT.format(n=50, lr=1e-3)]
    assert not [text for text in said if not is_korean(phrase(text))]
    assert phrase(errors.did_you_mean("tinny", ["tiny", "mini"])) == "혹시 이것인가요? 'tiny'"
    assert phrase("0 or more and below 1") == "0 이상 1 미만"
    assert phrase("what a user wrote") == "what a user wrote"
