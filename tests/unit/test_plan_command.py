"""`nudge plan` on the command line."""

import contextlib
import json
import os
import re
import shlex
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nudge.cli import cli, main
from nudge.errors import ConfigError
from nudge.plan import this_machine
from nudge.plan.hardware import DEVICES
from nudge.plan.this_machine import LocalSpeed
from nudge.recipes import recipe

PAGE = Path(__file__).parents[2] / "docs" / "plan.md"


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command line: its exit code, standard output and standard error."""
    monkeypatch.setenv("NUDGE_CACHE", str(tmp_path))

    def type_in(line: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(line)[1:])
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return type_in


def test_alone_it_answers_time_money_and_memory_first(typed: Any):
    code, printed, _ = typed("nudge plan")
    assert code == 0
    assert "gpt2_small on 8 x NVIDIA H100 SXM 80 GB" in printed.splitlines()[0]
    for name, unit in (("time", " min"), ("money", r"\$\d+\.\d\d"), ("memory", " GB"), ("loss", "not a forecast")):
        assert re.search(rf"^  {name} .*{unit}", "\n".join(printed.splitlines()[:7]), re.M)
    for part in ("Memory", "Where it comes from", "The same run on other machines", "If you change one thing", "Next"):
        assert re.search(rf"^{part}", printed, re.M)


def on_a_terminal(*args: str, columns: int) -> str:
    """What `nudge plan` shows on a terminal of that width, without its colours."""
    fcntl, termios = (pytest.importorskip(name, reason="needs a pseudo-terminal") for name in ("fcntl", "termios"))
    controller, terminal_fd = os.openpty()
    fcntl.ioctl(terminal_fd, termios.TIOCSWINSZ, struct.pack("HHHH", 200, columns, 0, 0))
    terminal = {**os.environ, "TERM": "xterm-256color"}
    with subprocess.Popen(
        [sys.executable, "-m", "nudge", "plan", *args], stdout=terminal_fd, stdin=terminal_fd, env=terminal
    ):
        os.close(terminal_fd)
        printed = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while read := os.read(controller, 65536):
                printed += read
    os.close(controller)
    return re.sub(r"\x1b\[[\d;]*m", "", printed.decode()).replace("\r", "")


@pytest.mark.parametrize(
    ("args", "columns"),
    [
        ([], 100),
        *(
            (args, columns)
            for args in ([], ["gpt2_xl", "--gpu", "4090"], ["--budget", "100"], ["--lecture"], ["--validate"])
            for columns in (60, 80)
        ),
    ],
    ids=str,
)
def test_it_fits_a_terminal(args: list[str], columns: int):
    lines = on_a_terminal(*args, columns=columns).splitlines()
    assert len(lines) > 10
    assert max(len(line.rstrip()) for line in lines) <= columns
    assert not [line for line in lines if "…" in line]


@pytest.mark.slow
def test_no_torch_is_loaded():
    code = "import sys\nfrom nudge.cli import main\ntry: main({args})\nexcept SystemExit as end: assert not end.code\n"
    code += "assert 'torch' not in sys.modules"
    for args in (["plan"], ["plan", "--budget", "100"], ["plan", "--validate"], ["plan", "--lecture"]):
        script = code.format(args=args)
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("line", "first"),
    [
        ("nudge plan gpt2_small --gpu 4090", "gpt2_small on 1 x NVIDIA RTX 4090"),
        ("nudge plan gpt2_xl --hours 48 --gpu h100", "gpt2_xl on 8 x NVIDIA H100"),
        ("nudge plan gpt2_xl --budget 100", "gpt2_xl on 8 x NVIDIA H100"),
        ("nudge plan gpt2_xl --hours 24 --count 8 --gpu a100-80", "gpt2_xl on 8 x NVIDIA A100"),
        ("nudge plan --budget 100", "What $100 trains on 8 x NVIDIA H100"),
        ("nudge plan --hours 24 --gpu 4090", "What 24 hours trains on 1 x NVIDIA RTX 4090"),
        ("nudge plan --tokens chinchilla", "gpt2_small on 8 x NVIDIA H100 SXM 80 GB: 2.49B tokens"),
        (
            "nudge plan --tokens 10B --set model.n_layer=6",
            "gpt2_small with n_layer=6 on 8 x NVIDIA H100",
        ),
        ("nudge plan gpt3 --gpu h100 --count 8", "gpt3 on 8 x NVIDIA H100"),
        ("nudge plan --lecture", "What a GPT-2 XL costs"),
        ("nudge plan --validate", "Published runs, each predicted"),
        ("nudge plan gpt2_xl --explain", "gpt2_xl on 8 x NVIDIA H100"),
    ],
)
def test_questions_and_the_first_line_of_their_answers(typed: Any, line: str, first: str):
    code, printed, _ = typed(line)
    assert code == 0
    assert printed.startswith(first)


def test_the_answer_is_a_sentence(typed: Any):
    assert (
        "is the fewest that likely needs no more than 48 hours" in typed("nudge plan gpt2_xl --hours 48 --gpu h100")[1]
    )
    assert "$100 rents 8 x NVIDIA H100 SXM 80 GB for 4.17 hours" in typed("nudge plan gpt2_xl --budget 100")[1]
    assert "2 of them can hold it (--count 2)" in typed("nudge plan gpt2_xl --gpu 4090")[1]


def test_a_price_of_ones_own_is_shown_with_its_date(typed: Any):
    printed = typed("nudge plan --gpu t4 --price 0.35@2026-11-20")[1]
    assert "at $0.35 per GPU-hour (2026-11-20: given by you)" in printed
    assert "its price is not known" in typed("nudge plan --gpu t4")[1]


def test_the_lectures_loose_figures_are_shown_as_such(typed: Any):
    printed = typed("nudge plan --lecture")[1]
    for words in ("62 hours", "$576", "67x", "hoped", "1,557,611,200", "GPT-3", "Llama-3.1 405B", "DeepSeek-V3"):
        assert words in printed


def test_explaining_gives_every_formula_a_source(typed: Any):
    printed = typed("nudge plan gpt2_xl --explain")[1]
    for words in ("6N + 12LTC", "2(n-1)/n * S / bandwidth", "419 in 54 days", "32,000 updates * 1,048,576"):
        assert words in printed


def test_json(typed: Any):
    found = json.loads(typed("nudge plan gpt2_xl --budget 600 --json")[1])
    assert "$600 rents" in found["answer"]
    assert found["parameters"]["wte"] == 50_257 * 1600
    assert found["fits"] is True
    assert 590 < found["usd"]["likely"] <= 600
    assert {formula["name"] for formula in found["formulas"]} >= {"parameters", "memory", "time", "cost"}
    assert [rung["hours"]["likely"] for rung in found["ladder"]][-1] == min(
        r["hours"]["likely"] for r in found["ladder"]
    )
    assert any(change["change"] == "a quarter of the tokens" for change in found["changes"])
    assert [row["ask"]["recipe"] for row in json.loads(typed("nudge plan --budget 100 --json")[1])][-1] == "gpt2_xl"
    lecture = json.loads(typed("nudge plan --lecture --json")[1])
    assert [row["when"] for row in lecture["costs"]] == ["2019", "2024", "hoped"]


def test_validation_is_json_too_and_keeps_its_thresholds(typed: Any):
    code, printed, _ = typed("nudge plan --validate --json")
    found = json.loads(printed)
    assert code == 0
    assert found["goal"] == {"median_error": 0.15, "within": 0.35, "share_within": 0.9, "holds": True}
    assert len(found["rows"]) > 15
    errors = sorted(abs(row["error"]) for row in found["rows"])
    assert found["median_error"] == pytest.approx((errors[(len(errors) - 1) // 2] + errors[len(errors) // 2]) / 2)


def test_missed_thresholds_end_with_1(typed: Any, monkeypatch: pytest.MonkeyPatch):
    from nudge.plan import speed

    monkeypatch.setattr(speed, "MOST_MEDIAN_ERROR", 0.0)
    code, printed, _ = typed("nudge plan --validate")
    assert code == 1
    assert printed.rstrip().endswith("the goal is missed")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("nudge plan --tokens=-5", "below_minimum"),
        ("nudge plan --tokens 0", "below_minimum"),
        ("nudge plan --gpu h10", "unknown_gpu"),
        ("nudge plan --price 3", "price_without_date"),
        ("nudge plan --count 0", "below_minimum"),
        ("nudge plan --budget 0", "budget_not_positive"),
        ("nudge plan gpt2_xl --budget 0.001", "budget_below_one_update"),
        ("nudge plan --hours=-1", "hours_not_positive"),
        ("nudge plan --budget 1 --hours 1", "exclusive_options"),
        ("nudge plan gpt2_xl --budget 1 --hours 1", "exclusive_options"),
        ("nudge plan --budget 1 --tokens 1B", "tokens_and_budget"),
        ("nudge plan --hours 1 --count 8 --tokens 1B", "tokens_and_time"),
        ("nudge plan --lecture --validate", "exclusive_options"),
        ("nudge plan --gpu cpu", "processor_not_measured"),
        ("nudge plan --gpu t4 --budget 5", "no_price"),
    ],
)
def test_what_is_impossible_is_refused(line: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NUDGE_CACHE", str(tmp_path))
    with pytest.raises(ConfigError) as refused:
        cli.main(shlex.split(line)[1:], standalone_mode=False)
    assert refused.value.code == f"config.{code}"
    assert refused.value.hint


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("nudge plan --tokens many", "'many'"),
        ("nudge plan gpt5", "'gpt5'"),
        ("nudge plan --set n_layer=3", "'n_layer'"),
        ("nudge plan --dtype float16", "'float16'"),
        ("nudge plan --count 0", "0"),
    ],
)
def test_mistakes_are_a_line_a_hint_and_exit_code_2(typed: Any, line: str, value: str):
    code, out, err = typed(line)
    assert (code, out) == (2, "")
    error, hint = err.splitlines()
    assert value in error
    assert hint.startswith(" hint: ")


def test_the_help_names_every_machine(typed: Any):
    (named,) = re.findall(r"--gpu NAME\s+(.*?)\.", typed("nudge plan --help")[1], re.S)
    assert set(re.split(r",\s+", named)) == {"cpu", *DEVICES}


@pytest.mark.slow
def test_this_machine_is_measured_and_then_planned_with(typed: Any, tmp_path: Path):
    small = "--set model.n_layer=1 --set model.n_embd=32 --set model.n_head=2 --set data.tokenizer=bytes"
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question\n" * 2000, encoding="utf-8")
    sizes = f"{small} --set model.vocab_size=257 --set data.paths={tmp_path / 'text.txt'}"
    code, printed, err = typed(f"nudge plan --calibrate {sizes} --tokens 100K")
    assert (code, err.count("measuring this machine")) == (0, 1)
    assert printed.startswith("tiny here: 98 updates of 1,024 tokens")
    assert re.search(r"^  time .* – ", printed, re.M)
    code, printed, _ = typed(f"nudge plan tiny --gpu cpu {sizes}")
    assert code == 0
    assert "this very network, as measured here on" in printed
    assert "your own machine" in printed


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    lines = (re.sub(r"\s+# .*", "", line) for line in "\n".join(blocks).splitlines())
    return [line for line in lines if line.startswith("nudge plan") and "--calibrate" not in line]


@pytest.mark.parametrize("line", commands())
def test_every_command_of_the_page_works(typed: Any, line: str):
    model = recipe("tiny").model
    this_machine.remember(
        LocalSpeed(
            date="2026-11-21", machine="EPYC, 2 threads", device="cpu", dtype="bfloat16", recipe="tiny", model=model,
            batch_tokens=1024, tokens_per_s=4000.0, spread=0.2,
        )
    )  # fmt: skip
    code, printed, err = typed(line)
    assert (code, err) == (0, "")
    assert printed


def test_the_python_of_the_page_works(capsys: pytest.CaptureFixture[str]):
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    exec(block, {})
    hours, usd, fits = capsys.readouterr().out.split()
    assert float(usd) == pytest.approx(8 * 3 * float(hours))
    assert fits == "True"
