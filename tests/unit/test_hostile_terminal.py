"""Whatever a file, a name or a model holds, a terminal shows it and never obeys it."""

import contextlib
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import rich.text
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from rich.rule import Rule
from safetensors.torch import save_file
from tests.processes import in_terminal, typed

from nudge.cli.output import Console, Text, make_table
from nudge.cli.terminal import echo_json, write
from nudge.config import Config, ModelConfig
from nudge.data.published_vocab import GPT2_PATTERN
from nudge.data.tokenizer import EOT, BpeTokenizer
from nudge.infer.engine import load
from nudge.model.gpt import GPT, init_weights
from nudge.runs import checkpoint as checkpoints
from nudge.runs.checkpoint import Checkpoint
from nudge.runs.folder import RunFolder
from nudge.util.terminal_text import make_readable, one_line

# A title and a clipboard (OSC 52), a color of nobody else, reversed and isolated writing, a zero width, C1, the rest.
COMMANDS = "\x1b]0;owned\x07\x1b]52;c;b3duZWQ=\x07\x1b[38;2;6;6;6m\u202egnp\u2066\u200b\x9b2J\x9d\b\r\n\x7f"
HOSTILE = f"[/x][bold]{COMMANDS}"
IN_A_PATH = HOSTILE.replace("/", "")  # a file can have this name, too
NAME = "".join(one for one in IN_A_PATH if unicodedata.category(one) != "Cc")  # and a person can type this one

# What rich and click send: colors, the cursor hidden and shown, and the redrawn lines of a bar.
OURS = re.compile(r"\x1b\[(0|[1-9][0-9]?(;5;[0-9]+)?(;[1-9][0-9]?(;5;[0-9]+)?)*)?m|\x1b\[\?25[lh]|\x1b\[[0-9]*[AK]|\r")


SEEN = re.compile(r"␛|<E2 80 AE>|\\u202e|\\x1b")  # by signs, or in an error by Python's escapes
SEEN_IN_JSON = re.compile(r"\\u001b|\\u202e|␛|\\x1b")


def obeyed(shown: str) -> list[str]:
    """What a terminal would obey, or draw where nobody sees it, beside what rich and click send themselves."""
    return [
        character
        for character in OURS.sub("", shown)
        if character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, a vocabulary, weights and text whose names and values all are hostile."""
    home = tmp_path_factory.mktemp("hostile")
    tokens = [bytes([byte]) for byte in range(256)]
    tokenizer = BpeTokenizer(HOSTILE, tokens, pattern=GPT2_PATTERN, special={EOT: 256, HOSTILE: 257})
    sizes = ModelConfig(n_layer=1, n_head=1, n_embd=16, block_size=32, vocab_size=tokenizer.vocab_size)
    config = Config(recipe=HOSTILE, model=sizes)
    network = GPT(sizes)
    init_weights(network, seed=0)
    folder = RunFolder(home / "runs" / IN_A_PATH)
    state = network.state_dict()
    checkpoint = Checkpoint(step=3, config=config, model=state, tokenizer_sha256=tokenizer.sha256)
    checkpoints.save(folder, checkpoint)
    tokenizer.save(folder.tokenizer)
    folder.run_json.write_text(json.dumps({"config": {"recipe": HOSTILE}}), encoding="utf-8")
    number = RunFolder(home / "others" / "number")
    number.path.mkdir(parents=True)
    number.run_json.write_text('{"config": {"recipe": [5]}}', encoding="utf-8")
    number.ckpt.touch()
    save_file({f"h.0.{HOSTILE}.bias": torch.zeros(4), HOSTILE: torch.zeros(3)}, home / "names.safetensors")
    (home / "texts").mkdir()
    (home / "texts" / f"{IN_A_PATH}.txt").write_text("The little dog ran to the edge of the water.\n" * 99)
    (home / "settings.toml").write_text(f"recipe = {json.dumps(HOSTILE)}\n", encoding="utf-8")
    (home / "broken.toml").write_text(f"[train]\n{json.dumps(HOSTILE)} = 1\n", encoding="utf-8")
    task = {"activity_label": "a", "ctx": "b", "endings": ["c", "d"], "label": HOSTILE}
    (home / "task.jsonl").write_text(json.dumps(task) + "\n", encoding="utf-8")
    (home / "sheet.md").write_text(f'---\n"{NAME}": 1\n---\n', encoding="utf-8")
    return home


# (arguments, exit code, whether something hostile is to be seen)
TYPED = [
    (("runs",), 0, True),
    (("runs", "others"), 0, False),
    (("predict", "--top", "300"), 0, True),
    (("predict", "--token", HOSTILE), 2, True),
    (("once", "--target", "257", "--control", HOSTILE[:20]), 0, True),
    (("once", "--ids", "27,257", "--target", "27"), 0, True),
    (("sample", "--prompt", HOSTILE.replace("[bold]", ""), "--temperature", "5", "--max-tokens", "500"), 2, False),
    (("sample", "--prompt", "[/x]\x1b[2J", "--temperature", "5", "--max-tokens", "500"), 0, True),
    (("inspect",), 0, True),
    (("inspect", "--neighbours", HOSTILE[:20]), 0, True),
    (("inspect", "--tensor", HOSTILE), 2, True),
    (("inspect", "names.safetensors"), 0, True),
    (("inspect", "names.safetensors", "--tensor", HOSTILE), 0, True),
    (("inspect", "names.safetensors", "--against", "names.safetensors"), 0, True),
    (("eval", "--data", "texts"), 0, False),
    (("eval", "--task", "hellaswag", "--file", "task.jsonl"), 2, True),
    (("export", "--to", "ckpt", "--out", f"exported{NAME}"), 0, True),
    (("export", "--to", "hf", "--out", "hf"), 0, True),
    (("import", f"nothing{NAME}", "--out", "imported"), 2, True),
    (("data", "prepare", "texts", "--tokenizer", "bytes", "--out", f"tokens{NAME}"), 0, True),
    (("data", "prepare", f"none{NAME}"), 2, True),
    (("data", "info", f"none{NAME}"), 2, True),
    (("tokenizer", "encode", "--tokenizer", f"none{NAME}"), 2, True),
    (("plan", HOSTILE), 2, True),
    (("plan", "--set", HOSTILE), 2, True),
    (("plan", "--gpu", HOSTILE), 2, True),
    (("train", "--config", "settings.toml", "--data", f"none{NAME}"), 2, True),
    (("train", "--config", "broken.toml"), 2, True),
    (("train", "--recipe", HOSTILE), 2, True),
    (("launch", "--on", "local", "--name", HOSTILE, "--", "--data", "texts"), 2, True),
    (("sheet", "run"), 2, True),
    (("sheet", f"none{NAME}"), 2, True),
    (("sheet", "sheet.md"), 2, True),
    (("bench", "decode", "--peer", HOSTILE), 2, True),
    ((HOSTILE,), 2, True),
    (("plan", f"--{HOSTILE}"), 2, True),
]


@pytest.mark.slow
@pytest.mark.parametrize(("args", "code", "is_seen"), TYPED, ids=lambda value: re.sub("[^a-z -]", "", str(value))[:40])
def test_a_terminal_gets_nothing_to_obey(home: Path, args: tuple[str, ...], code: int, is_seen: bool):
    ended, sent = in_terminal(home, *args)
    shown = sent.decode("utf-8")
    assert not obeyed(shown)
    assert "Traceback" not in shown
    assert ended == code, shown
    if is_seen:
        assert SEEN.search(shown), shown
    if code == 2:
        message, hint = [line for line in shown.splitlines() if "error: " in line or " hint: " in line]
        assert "error: " in message
        assert " hint: " in hint


@pytest.mark.slow
def test_a_run_with_hostile_names_and_text(home: Path):
    """Preparing, training, its samples and report, and going on."""
    sizes = [
        part for size in ("n_layer=1", "n_head=1", "n_embd=16", "block_size=32") for part in ("--set", f"model.{size}")
    ]
    settings = [*sizes, "--set", f"sample.prompt={json.dumps(HOSTILE[:12])}", "--sample-every", "1", "--steps", "2"]
    run = str(Path("trained", NAME))
    command = ["train", "--config", "settings.toml", "--data", "texts", "--tokenizer", "bytes", *settings, "--run", run]
    for args in (command, ["resume", run, "--steps", "3"], ["runs", "trained"]):
        ended, sent = in_terminal(home, *args)
        shown = sent.decode("utf-8")
        assert not obeyed(shown)
        assert ended == 0, shown
        assert SEEN.search(shown), shown


@pytest.mark.slow
@pytest.mark.parametrize(
    "args",
    [
        ("runs", "--json"),
        ("predict", "--top", "300", "--json"),
        ("once", "--target", "27", "--json"),
        ("sample", "--prompt", "[/x]\x1b\u202e\x9b", "--temperature", "5", "--max-tokens", "9", "--json"),
        ("inspect", "--json"),
        ("inspect", "names.safetensors", "--json"),
    ],
    ids=lambda args: args[0],
)
def test_json_escapes_and_is_valid_everywhere(home: Path, args: tuple[str, ...]):
    ended, sent = in_terminal(home, *args)
    done = typed(home, *args)
    assert (ended, done.returncode) == (0, 0)
    assert sent.replace(b"\r\n", b"\n") == done.stdout  # the terminal itself makes \r\n of \n
    assert not obeyed(done.stdout.decode("utf-8"))
    assert SEEN_IN_JSON.search(done.stdout.decode("utf-8"))
    json.loads(done.stdout)


def test_a_value_in_json_is_exact(capfdbinary: pytest.CaptureFixture[bytes]):
    value = {COMMANDS: [HOSTILE, "한글 e\u0301 😀\U000e0041\udc80"], "none": [math.nan, -math.inf, (1.5,)]}
    echo_json(value)
    read = json.loads(capfdbinary.readouterr().out)
    assert read == {COMMANDS: value[COMMANDS], "none": [None, None, [1.5]]}


@pytest.mark.slow
def test_text_in_a_file_is_exact_and_on_a_terminal_readable(home: Path):
    """What a model writes, and the bytes of tokens: `nudge sample > file` keeps each byte."""
    prompt, (run,) = "[/x]\x1b\r\u202e", (home / "runs").iterdir()
    args = ("sample", "--prompt", prompt, "--temperature", "5", "--max-tokens", "20", "--seed", "2")
    written = load(run).generate(prompt, temperature=5, max_tokens=20, seed=2)
    assert obeyed(written)
    assert typed(home, *args).stdout == f"{prompt}{written}\n".encode()
    shown = in_terminal(home, *args)[1].decode("utf-8").replace("\r\n", "\n")
    assert OURS.sub("", shown) == make_readable(f"{prompt}{written}\n")
    tokenizer = str(run / "tokenizer.json")
    every = " ".join(map(str, range(258))).encode()
    shutil.copy(tokenizer, home / "every.json")
    decode = ("tokenizer", "decode", "--tokenizer", "every.json")
    assert typed(home, *decode, stdin=every).stdout == bytes(range(256))


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo terminals are POSIX")
def test_bytes_on_a_terminal_are_readable():
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as terminal, contextlib.redirect_stdout(terminal):
        write(b"\x1b[2Ja\xed\x95b\n")
    assert os.read(master, 100).decode() == "␛[2Ja\ufffdb\r\n"
    os.close(master)


def test_a_traceback_is_shown_too(tmp_path: Path):
    bug = "import sys\nfrom nudge import cli\ndef bug(name): raise ValueError(sys.argv[1])\ncli.load = bug\n"
    code = f"{bug}cli.main(['runs'])"
    done = subprocess.run([sys.executable, "-c", code, COMMANDS], capture_output=True, check=False)
    assert done.returncode == 1
    shown = done.stderr.decode("utf-8")
    assert shown.startswith("Traceback")
    assert not obeyed(shown)
    assert "ValueError: ␛]0;owned␇" in shown


@example(COMMANDS)
@given(st.text())
def test_what_comes_out_has_nothing_to_obey(text: str):
    for shown in (make_readable(text), one_line(text)):
        assert not obeyed(shown)
        assert "\x1b" not in shown
        assert "\r" not in shown
    assert "\n" not in one_line(text)


@given(st.text("가힣ㄱ한漢かéñ\u0301\u0308\u0300😀👍🏽❤\ufe0f🇰🇷·⏎ \u3000\n\tabc<[/]>"))
def test_what_people_write_stays(text: str):
    assert make_readable(text) == text


@given(st.text(), st.text())
def test_tables_and_lines_show_what_they_are_given(cell: str, line: str):
    console = Console(file=io.StringIO(), width=10_000, force_terminal=True, legacy_windows=False)
    table = make_table("name", ">n")
    table.add_row(cell, Text(line))
    console.print(table)
    console.print(rich.text.Text(line), Rule(line), line, Text.assemble(line, (cell, "bold")))
    assert isinstance(console.file, io.StringIO)
    assert not obeyed(console.file.getvalue())
