"""A wrong path or option is refused before torch is imported, which takes seconds."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

WRONG = [  # a command line, and the code of its error
    ("train --data nothing.txt", "data.missing"),
    ("train --data book.txt --init runs/none", "checkpoint.not_found"),
    ("train --data book.txt --tokenizer none.json", "tokenizer.unreadable"),
    ("train --data book.txt --set model.n_head=5", "config.heads_do_not_divide"),
    ("train --data book.txt --set model.ffn=64", "config.planned_only"),
    ("train --data book.txt --run runs/taken", "run.folder_taken"),
    ("train --data book.txt --recipe gpt3", "machine.disk"),
    ("train --config none.toml", "config.unreadable_file"),
    ("resume runs/none", "run.no_run"),
    ("resume", "checkpoint.no_run"),
    ("sample runs/none", "checkpoint.not_found"),
    ("sample runs/taken --temperature -1", "config.out_of_range"),
    ("sample", "checkpoint.no_run"),
    ("eval runs/none", "checkpoint.not_found"),
    ("eval runs/taken --data nothing.txt", "data.missing"),
    ("eval runs/taken --task piqa --file none.jsonl", "data.unreadable"),
    ("predict runs/none", "checkpoint.not_found"),
    ("predict runs/taken --top-p 2", "config.out_of_range"),
    ("once runs/none --target a", "checkpoint.not_found"),
    ("inspect runs/none", "checkpoint.not_found"),
    ("inspect runs/taken --against none", "checkpoint.not_found"),
    ("data prepare nothing.txt", "data.missing"),
    ("data info none", "data.not_prepared"),
    ("tokenizer train nothing.txt --vocab-size 300 --out t.json", "data.missing"),
    ("import none.bin --out new", "format.not_found"),
    ("import book.txt --out runs", "config.folder_not_empty"),
    ("export runs/none --to hf --out new", "checkpoint.not_found"),
    ("export runs/taken --to hf --out runs", "config.folder_not_empty"),
    ("plan none", "config.unknown_recipe"),
    ("plan --params none", "config.no_count"),
    ("sheet none", "sheet.unknown"),
    ("sheet run runs/none", "sheet.no_run"),
    ("launch --on local -- --data nothing.txt", "data.missing"),
]
SCRIPT = """
import sys
from nudge.cli import cli
from nudge.errors import NudgeError
try:
    cli.main(sys.argv[1:], standalone_mode=False)
except NudgeError as error:
    print(error.code, "torch" in sys.modules)
"""


@pytest.mark.parametrize(("line", "code"), WRONG)
def test_it_is_refused_without_torch(line: str, code: str, tmp_path: Path):
    (tmp_path / "book.txt").write_text("a text\n" * 100, encoding="utf-8")
    if "taken" in line or line.endswith("--out runs"):
        taken = tmp_path / "runs" / "taken"
        taken.mkdir(parents=True)
        (taken / "run.json").write_text("{}", encoding="utf-8")
    command = [sys.executable, "-c", SCRIPT, *shlex.split(line)]
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert refused.stdout.split() == [code, "False"]
