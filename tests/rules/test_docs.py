"""Documentation that is true: its commands run, its tables agree with the code, its links lead somewhere."""

import dataclasses
import json
import re
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click
import pytest
from tests.processes import typed
from tests.sheets import pen_font
from tests.waiting import LONG_S

from nudge import cli, errors, events
from nudge import config as configs
from nudge.recipes import recipe

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
ENGLISH = ROOT / "README.md"
TUTORIAL, TROUBLE = ROOT / "docs" / "tutorial.md", ROOT / "docs" / "troubleshooting.md"
HOWTO = ROOT / "docs" / "howto.md"
KOREAN = [page for page in PAGES if page.name.endswith(".ko.md")]


def blocks(page: Path) -> list[tuple[str, str]]:
    """The code blocks of a page in their order, each with its language."""
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def fences(page: Path, language: str) -> Iterator[str]:
    """The code blocks of one language."""
    return (code for found, code in blocks(page) if found == language)


def commands(page: Path) -> list[str]:
    """What a page tells a person to type that is ours to answer for, without comments."""
    return commands_in("\n".join(fences(page, "sh")))


def commands_in(code: str) -> list[str]:
    typed = (re.sub(r"\s+# .*", "", line) for line in code.replace("\\\n", " ").splitlines())
    return [line for line in typed if re.match(r"(echo .*\| )?(nudge|make)\b", line)]


def id_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


# A run of the documentation's commands needs not learn much: the same with a small network, few updates and few tokens
# of Python's own library to evaluate on.
def small(args: list[str]) -> list[str]:
    """The arguments of a command, for a network that is trained in a moment."""
    few = {"--minutes": "0.02", "--steps": "5" if args[0] == "resume" else "3"}
    args = [few.get(before, word) for before, word in zip(["", *args], args, strict=False)]
    if args[0] == "train":
        if not few.keys() & set(args):
            args += ["--steps", "3"]
        if "--init" not in args and "llm_viz" not in args:  # which is small already
            for size in ("n_layer=1", "n_head=2", "n_embd=32"):
                args += ["--set", f"model.{size}"]
        if not {"--data", "--recipe"} & set(args):
            args += ["--set", "data.val_share=0.01"]
    return args


LONG = 'train={"steps": 40}'
SHORT = 'train={"steps": 4}, model={"n_layer": 1, "n_head": 2, "n_embd": 32}, data={"val_share": 0.01}'
TEXT = textwrap.dedent(subprocess.__doc__ or "") + Path(subprocess.__file__).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the texts that the README speaks of, and `nudge`."""
    folder = with_nudge(tmp_path_factory.mktemp("newcomer"))
    for name in ("my_text.txt", "some_text.py"):
        (folder / name).write_text(TEXT, encoding="utf-8")
    reviews = [
        json.dumps({"document": f"{number}번째 영화는 정말 재미있어요. {line}"})
        for number, line in enumerate(TEXT.splitlines())
    ]
    (folder / "reviews.jsonl").write_text("\n".join(reviews), encoding="utf-8")
    return folder


def with_nudge(folder: Path) -> Path:
    """The folder, with `nudge` in its bin."""
    (folder / "bin").mkdir()
    nudge = folder / "bin" / "nudge"
    nudge.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m nudge "$@"\n', encoding="utf-8")
    nudge.chmod(0o755)
    return folder


def type_in(folder: Path, command: str) -> None:
    if command.startswith("nudge studio"):
        return open_studio(folder)
    if re.fullmatch(r'nudge [\w\s./=+"-]*', command):  # nothing that only a shell understands
        done = typed(folder, *small(shlex.split(command)[1:]))
        assert done.returncode == 0, f"{command}\n{done.stdout.decode()[-2000:]}\n{done.stderr.decode()}"
        return None
    result = subprocess.run(
        ["bash", "-c", f'PATH="$PWD/bin:$PATH"; set -o pipefail; {command}'],
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=LONG_S,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout[-2000:]}\n{result.stderr}"


def open_studio(folder: Path) -> None:
    """`nudge studio` does not end by itself: the address that it prints must open it, and Control-C must end it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(folder / "bin" / "nudge"), "studio", "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    try:
        assert process.stdout is not None
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address, "it ended at once"
        with browser.open(address[0], timeout=LONG_S) as answer:
            assert b"nudge" in answer.read()
            assert "/train" in answer.url
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=LONG_S)
    finally:
        process.kill()
    assert "Traceback" not in said
    assert process.returncode in (0, 130), said


def made(target: str) -> str:
    """What `make` would run for it on a checkout that is set up."""
    result = subprocess.run(
        ["make", "--dry-run", *shlex.split(target)[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_what_the_readme_says_to_type_works(newcomer: Path):
    """In the order of the pages, each on what the ones before left."""
    for command in (*commands(ENGLISH), *commands(HOWTO)):
        if command.startswith("make"):
            recipe = made(command)
            if "nudge train" in recipe and not (newcomer / "runs").exists():
                type_in(newcomer, "nudge train")
        elif not command.startswith("nudge sheet"):  # which needs a font: below
            type_in(newcomer, command)
    assert len(commands(ENGLISH)) > 10
    assert len(commands(HOWTO)) > 25


@pytest.mark.slow
def test_the_sheets_that_the_pages_speak_of_are_drawn(newcomer: Path):
    pen_font()
    if not (newcomer / "runs").exists():
        type_in(newcomer, "nudge train")
    page = ROOT / "docs" / "sheets.md"
    typed = [line for one in (ENGLISH, HOWTO, page) for line in commands(one) if line.startswith("nudge sheet")]
    for command in typed:
        type_in(newcomer, command)
    (example,) = re.findall(r"^````markdown\n(.*?)^````", page.read_text(encoding="utf-8"), re.M | re.S)
    (newcomer / "learned.md").write_text(example, encoding="utf-8")
    type_in(newcomer, "nudge sheet learned.md")
    drawn = {path.name for path in newcomer.iterdir() if path.suffix in (".pdf", ".png")}
    assert drawn >= {"gpt2.pdf", "run.png", "io.pdf", "my.pdf", "learned.pdf"}


@pytest.mark.slow
def test_the_first_hour_works(tmp_path: Path):
    """Every block in the order of the page, as a reader types it; the Korean page has the same blocks."""
    folder = with_nudge(tmp_path)
    for language, code in blocks(TUTORIAL):
        if language == "python":
            (folder / "lesson.py").write_text(code, encoding="utf-8")
            type_in(folder, f"{shlex.quote(sys.executable)} lesson.py")
        for command in commands_in(code) if language == "sh" else ():
            if command.startswith("nudge sheet"):
                pen_font()
            type_in(folder, command.replace("--data nsmc", "--data diary.txt"))  # tests use no network


@pytest.mark.slow
def test_what_the_page_on_troubles_says_to_type_works(newcomer: Path):
    if not (newcomer / "runs" / "tiny").exists():
        type_in(newcomer, "nudge train --run runs/tiny")
    for command in commands(TROUBLE):
        type_in(newcomer, command)


def test_the_errors_on_the_page_on_troubles_are_ours():
    messages = [wording["message"] for family in errors.catalog().values() for wording in family.values()]
    ours = [re.sub(r"\\\{.*?\\\}", ".+", re.escape(message)) for message in messages]
    shown = re.findall(r"^error: (.*)$", TROUBLE.read_text(encoding="utf-8"), re.M)
    assert len(shown) >= 4
    for message in shown:
        assert any(re.fullmatch(pattern, message) for pattern in ours if pattern != ".+"), message


@pytest.mark.slow
def test_the_python_of_the_readme_works(newcomer: Path):
    example = "\n".join(fences(ENGLISH, "python"))
    assert LONG in example
    (newcomer / "example.py").write_text(example.replace(LONG, SHORT), encoding="utf-8")
    type_in(newcomer, f"{shlex.quote(sys.executable)} example.py")


@pytest.mark.slow
def test_the_python_of_the_page_on_looking_inside_works(newcomer: Path):
    if not (newcomer / "runs" / "tiny").exists():
        type_in(newcomer, "nudge train --run runs/tiny")
    example = "\n".join(fences(ROOT / "docs" / "look.md", "python"))
    for size in ("layer=0, head=1", "mlp={0: 0.5}, heads={(1, 2): 0.0}"):
        assert size in example
    small = example.replace("heads={(1, 2): 0.0}", "heads={(0, 1): 0.0}")  # the network of these tests has one block
    (newcomer / "look.py").write_text(small, encoding="utf-8")
    type_in(newcomer, f"{shlex.quote(sys.executable)} look.py")


@pytest.mark.parametrize("korean", KOREAN, ids=id_of)
def test_both_languages_of_a_page_say_the_same(korean: Path):
    pages = korean.with_name(korean.name.replace(".ko.md", ".md")), korean
    english_commands, korean_commands = map(commands, pages)
    assert korean_commands == english_commands
    for language in ("python", "text"):
        in_both = [re.sub("#.*", "", "".join(fences(page, language))) for page in pages]
        assert in_both[0] == in_both[1]
    shapes = [re.findall(r"^#+ |^- |^\d\. |^\| ", page.read_text(encoding="utf-8"), re.M) for page in pages]
    assert shapes[0] == shapes[1]
    links = [re.findall(r"\]\(([^)#]*)[^)]*\)", page.read_text(encoding="utf-8"))[1:] for page in pages]
    # what there is in Korean, the Korean page leads to
    in_english = [re.sub(r"-ko(?=\.png)|\.ko(?=\.md)", "", link).replace(".ko.png", ".en.png") for link in links[1]]
    assert links[0] == in_english  # but the first, which leads to the other language


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_every_command_on_a_page_exists(page: Path):
    for line in commands(page):
        if line.startswith("make"):
            made(line)
        else:
            parse(shlex.split(line.rpartition("| ")[2])[1:])


def parse(args: list[str]) -> None:
    """Take a command line apart as click does, without running it."""
    command: click.Command = cli.cli
    context = click.Context(command, info_name="nudge", **cli.cli.context_settings)  # click keeps what help is called
    while isinstance(command, click.Group):
        name, found, args = command.resolve_command(context, args)
        assert found is not None, f"no command {name}"
        command = found
    command.make_context(command.name, list(args), parent=context)


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_every_link_leads_somewhere(page: Path):
    for target, section in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        leads_to = page.parent / target if target else page
        assert leads_to.exists(), target
        assert not section or section in sections(leads_to), f"{target}#{section}"


def sections(page: Path) -> set[str]:
    """What a link to a heading of the page ends with, as GitHub makes it."""
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_page_of_commands_is_their_help():
    # In a process of its own: click remembers how a command was first asked for its help, and others ask otherwise.
    code = "import runpy, sys; sys.stdout.write(runpy.run_path(sys.argv[1])['page']())"
    command = [sys.executable, "-X", "utf8", "-c", code, ROOT / "docs" / "commands.py"]
    written = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True).stdout
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == written, "run 'make docs'"


def test_the_page_of_settings_has_every_setting_and_its_default():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `([\w.]+)` \| `?([^`|]+?)`? \|", page, re.M))
    assert listed == {key: as_text(key) for key in list(configs.keys())}


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_glossary_is_what_its_source_says(language: str):
    made = runpy.run_path(str(ROOT / "docs" / "glossary.py"))
    written = made["PAGES"][language].read_text(encoding="utf-8")
    assert written == made["page"](language), "run 'make docs'"


def test_every_term_is_explained_in_both_languages():
    groups = tomllib.loads((ROOT / "src/nudge/studio/words/glossary.toml").read_text(encoding="utf-8"))
    entries = [entry for group in groups.values() for entry in group.values() if isinstance(entry, dict)]
    assert len(entries) >= 45
    for entry in entries:
        assert entry.keys() == {"en", "ko"}
        assert entry["en"].keys() == entry["ko"].keys() == {"term", "text", "see"}
        typed = [re.findall(r"`(nudge [^`]+)`", words["see"]) for words in entry.values()]
        assert typed[0] == typed[1]
        for command in typed[0]:
            with suppress(click.MissingParameter):  # it names the command, or one of its options
                parse(shlex.split(command)[1:])


def as_text(key: str) -> str:
    value: object = recipe("tiny")
    for part in key.split("."):
        value = getattr(value, part)
    return "none" if value in (None, ()) else str(value).lower()


def test_the_page_of_training_has_every_event_and_its_fields():
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    listed = {
        name: set(re.findall(r"`(\w+)`", fields))
        for name, fields in re.findall(r"^\| `(\w+)` \| (`.*) \|$", page, re.M)
    }
    assert listed == {
        kind.__name__.lower(): {field.name for field in dataclasses.fields(kind)} - {"step", "time"}
        for kind in events.RunEvent.__args__
    }
