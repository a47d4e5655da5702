"""The files that `nudge launch` writes: what is in them, that shells and YAML read them, and what is refused."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click.testing
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nudge import cli
from nudge.cli.launch import ENGINES
from nudge.errors import CheckpointError, ConfigError, DataError, MachineError, NudgeError, TokenizerError
from nudge.launch import local, skypilot, slurm
from nudge.launch.job import Job, LocalPath
from nudge.runs import checkpoint
from nudge.runs.folder import newest_run

NASTY = 'it\'s $HOME "말뭉치" #1 `id`'  # what a shell would take apart


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is hard to quote, with a text that is."""
    folder = tmp_path / NASTY
    folder.mkdir()
    (folder / f"{NASTY}.txt").write_text("the quick brown fox jumps over the lazy dog. " * 200)
    monkeypatch.chdir(folder)
    return folder


def launch(*args: str) -> str:
    """What is printed. Raises: what the command raises."""
    result = click.testing.CliRunner().invoke(cli.load("launch"), args, catch_exceptions=False, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.stdout


def job(**settings: Any) -> Job:
    given = {"name": "xl", "run": "runs/xl", "options": (), "folder": "/home/me", "python": sys.executable, **settings}
    return Job(**given)


def directives(script: str) -> dict[str, str]:
    """The #SBATCH lines, unquoted."""
    words = [
        shlex.split(line.removeprefix("#SBATCH --"))[0] for line in script.splitlines() if line.startswith("#SBATCH")
    ]
    return dict(word.partition("=")[::2] for word in words)


def assert_a_shell_reads(script: str) -> None:
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    if shutil.which("shellcheck"):
        command = ["shellcheck", "--shell=bash", "--severity=warning", "-"]
        checked = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout


def test_the_command_is_handed_on_as_it_was_typed(here: Path):
    typed = ["--recipe", "llm_viz", "--steps", "7", "--set", "train.lr=1e-3", "--set", f"save.every={9}"]
    made = json.loads(launch("--on", "local", "--per-node", "2", "--json", "--", *typed, "--run", f"runs/{NASTY}"))
    assert made["name"] == NASTY
    command = made["text"][made["text"].index("exec ") :].replace("\\\n", " ")
    words = shlex.split(command)
    assert words[: words.index("--")] == shlex.split(
        f"exec {shlex.quote(sys.executable)} -m torch.distributed.run --nnodes 1 --nproc-per-node 2 --max-restarts 3"
        ' --rdzv-backend static --rdzv-endpoint "127.0.0.1:$port" -m'
    )
    assert words[words.index("--") + 1 :] == ["nudge", "train", "--continue", "--run", "$run", *typed]


def test_text_may_be_typed_as_train_takes_it(here: Path):
    for name in ("a.txt", "b.txt"):
        Path(name).write_text("text " * 100)
    script = launch("--on", "local", "--", "--data", "a.txt", "b.txt", "--json")
    assert "  --data a.txt \\\n  --data b.txt" in script
    assert "--json" in script


RECORDER = """
import json, os, sys
from pathlib import Path
here = {"words": sys.argv[1:], "folder": os.getcwd(), "world": os.environ["WORLD_SIZE"]}
Path(os.environ["CALLS"], os.environ["RANK"]).write_text(json.dumps(here))
"""


@pytest.mark.slow
def test_torchrun_hands_every_word_to_every_process(here: Path, tmp_path: Path):
    """The script as it is, with the real torchrun; only `nudge` writes down what it was called with."""
    recorder = tmp_path / "recorder" / "nudge"
    recorder.mkdir(parents=True)
    for name, text in (("__init__.py", ""), ("__main__.py", RECORDER)):
        (recorder / name).write_text(text)
    script = tmp_path / "job.sh"
    text = f"{NASTY}.txt"
    launch("--on", "local", "--per-node", "2", "--out", str(script), "--", "--data", text, "--run", f"runs/{NASTY}")
    calls = tmp_path / "calls"
    calls.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(recorder.parent), "CALLS": str(calls)}
    started = subprocess.run(["bash", script], cwd="/", env=environment, capture_output=True, text=True, check=False)
    assert started.returncode == 0, started.stderr
    received = [json.loads((calls / rank).read_text()) for rank in ("0", "1")]
    words = ["train", "--continue", "--run", f"runs/{NASTY}", "--data", text]
    assert received == [{"words": words, "folder": str(here), "world": "2"}] * 2


@pytest.mark.slow
def test_a_job_on_this_machine_trains_and_is_finished_when_it_is_started_again(nudge, tmp_path: Path):
    training = ["--recipe", "llm_viz", "--steps", "3", "--run", "runs/first"]
    for _ in range(2):
        ended = nudge("launch", "--on", "local", "--per-node", "2", "--submit", "--", *training)
        assert ended.returncode == 0, ended.stderr
    recorded = [json.loads(line) for line in (tmp_path / "runs" / "first" / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in recorded if event["event"] == "step"] == [1, 2, 3]
    assert [event["processes"] for event in recorded if event["event"] == "started"] == [2]


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]), min_size=1))
def test_every_word_survives_every_file(word: str):
    """Shells and YAML give back the very words, whatever is in them."""
    options = (("--tokenizer", word), ("--set", f"data.field={word}"))
    scripts = [
        local.script(job(options=options, run=word, folder=f"/{word}")),
        slurm.batch_script(job(options=options, run=word, folder=f"/{word}")),
        yaml.safe_load(skypilot.task_yaml(job(options=options, gpu="h100")))["run"],
    ]
    for script in scripts:
        command = script[script.index(" -- nudge") :].replace("\\\n", " ").partition(" &\nwait")[0]
        words = shlex.split(command)
        assert words[6:10] == ["--tokenizer", word, "--set", f"data.field={word}"]


def test_slurm_is_asked_for_what_was_said(here: Path):
    script = launch(
        *shlex.split("--on slurm --nodes 2 --per-node 8 --gpu h100 --cpus 6 --hours 36.5 --partition big --name 이름"),
        *("--", "--recipe", "gpt2_xl", "--run", "runs/xl"),
    )
    assert_a_shell_reads(script)
    assert directives(script) == {
        "job-name": "이름",
        "chdir": str(here),
        "output": "%x-%j.out",
        "open-mode": "append",
        "nodes": "2",
        "ntasks-per-node": "1",
        "cpus-per-task": "48",
        "gres": "gpu:h100:8",
        "time": "36:30:00",
        "signal": "B:USR1@300",
        "partition": "big",
        "requeue": "",
    }
    assert "--nnodes 2 --nproc-per-node 8 --max-restarts 3" in script


@pytest.mark.parametrize(("gpu", "gres"), [("any", "gpu:4"), ("none", None), ("a100", "gpu:a100:4")])
def test_slurm_gives_as_many_gpus_as_processes(gpu: str, gres: str | None):
    assert directives(slurm.batch_script(job(per_node=4, gpu=gpu))).get("gres") == gres


def test_a_short_job_keeps_most_of_its_time():
    assert directives(slurm.batch_script(job(hours=0.1)))["signal"] == "B:USR1@90"


def test_skypilot_is_told_what_to_rent_and_what_to_carry(here: Path):
    book = here / f"{NASTY}.txt"
    options = ("--data", f"{NASTY}.txt", "--run", "runs/xl", "--tokenizer", "bytes")
    text = launch(*shlex.split("--on skypilot --nodes 2 --per-node 8 --gpu a100-80 --spot --hours 24"), "--", *options)
    task = yaml.safe_load(text)
    assert task["name"] == "xl"
    assert task["num_nodes"] == 2
    recovery = {"max_restarts_on_errors": 3}
    assert task["resources"] == {"accelerators": "A100-80GB:8", "use_spot": True, "job_recovery": recovery}
    carried = f"/nudge/inputs/0/{book.name}"
    assert task["file_mounts"].pop(carried) == str(book)
    ((place, bucket),) = task["file_mounts"].items()
    assert place == "/nudge/runs"
    assert bucket["name"].startswith("nudge-xl-")
    for script in (task["setup"], task["run"]):
        assert_a_shell_reads(script)
    words = shlex.split(task["run"].replace("\\\n", " "), comments=True)
    assert words[words.index("--data") + 1] == carried
    assert "run=/nudge/runs/xl" in words
    assert f"sleep {24 * 3600 - 300};" in task["run"]


def test_machines_that_share_a_bucket_only_are_started_again_together():
    assert "--max-restarts 3" in skypilot.task_yaml(job(gpu="h100", per_node=8))
    assert "--max-restarts 0" in skypilot.task_yaml(job(gpu="h100", per_node=8, nodes=2))
    with pytest.raises(ConfigError) as raised:
        skypilot.task_yaml(job(gpu="h100", per_node=8, options=(("--shard",),)))
    assert raised.value.code == "config.job_shard"


def test_a_job_that_is_launched_again_finds_its_bucket():
    first = skypilot.bucket_name(job())
    assert first == skypilot.bucket_name(job(nodes=4))
    others = [job(run="runs/xl-2"), job(folder="/home/me/else"), job(name="xl2")]
    assert first not in {skypilot.bucket_name(other) for other in others}


@pytest.mark.parametrize("name", ["이름", "x" * 200, "-", "A B_c"])
def test_every_cloud_takes_the_bucket(name: str):
    bucket = skypilot.bucket_name(job(name=name))
    assert 3 <= len(bucket) <= 63
    assert all(letter.isdigit() or "a" <= letter <= "z" or letter == "-" for letter in bucket)


def test_a_wheel_of_ones_own_is_carried():
    text = skypilot.task_yaml(job(gpu="none", package=LocalPath(__file__)))
    task = yaml.safe_load(text)
    assert task["file_mounts"][f"/nudge/inputs/0/{Path(__file__).name}"] == __file__
    assert f"/nudge/inputs/0/{Path(__file__).name}" in task["setup"]
    assert task["resources"]["cpus"] == "4+"


SKY = os.environ.get("NUDGE_SKY_PYTHON")


@pytest.mark.slow
@pytest.mark.skipif(not SKY, reason="NUDGE_SKY_PYTHON names no Python that has skypilot")
@pytest.mark.parametrize("options", ["--gpu h100 --nodes 2 --per-node 8 --spot --hours 2", "--gpu none", "--gpu 4090"])
def test_skypilot_itself_reads_the_task(here: Path, tmp_path: Path, options: str):
    file = tmp_path / "job.yaml"
    data = f"{NASTY}.txt"
    launch("--on", "skypilot", *shlex.split(options), "--out", str(file), "--", "--data", data, "--run", "runs/xl")
    code = "import sys, sky; task = sky.Task.from_yaml(sys.argv[1]); print(task.name, task.num_nodes)"
    environment = {**os.environ, "HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    del environment["PYTHONPATH"]
    read = subprocess.run(
        [str(SKY), "-c", code, file], env=environment, cwd=here, capture_output=True, text=True, check=False
    )
    assert read.returncode == 0, read.stderr
    assert read.stdout.split()[-2:] == ["xl", "2" if "--nodes 2" in options else "1"]


@pytest.mark.parametrize(
    ("typed", "name", "values"),
    [
        ("--on local --nodes 2 --", "job_nodes", {"nodes": 2}),
        ("--on local --hours 3 --", "job_hours", {}),
        ("--on slurm --nodes 0 --", "job_option", {"option": "--nodes", "least": 1}),
        ("--on slurm --per-node -1 --", "job_option", {"option": "--per-node", "least": 1}),
        ("--on slurm --cpus 0 --", "job_option", {"option": "--cpus", "least": 1}),
        ("--on slurm --hours 0 --", "job_option", {"option": "--hours", "least": 0.05}),
        ("--on slurm --hours nan --", "job_option", {"option": "--hours", "least": 0.05}),
        ("--on slurm --restarts -1 --", "job_option", {"option": "--restarts", "least": 0}),
        ("--on slurm --name=-x --", "job_name", {"name": "-x"}),
        ("--on slurm --name a/b --", "job_name", {"name": "a/b"}),
        ("--on skypilot --", "job_gpu", {}),
        ("--on skypilot --gpu h100 -- --data *.txt", "job_glob", {"glob": "*.txt"}),
    ],
)
def test_a_job_that_its_engine_cannot_run(here: Path, typed: str, name: str, values: dict[str, Any]):
    with pytest.raises(ConfigError) as raised:
        launch(*typed.split())
    assert raised.value.code == f"config.{name}"
    assert raised.value.values.items() >= values.items()


UNPRINTABLE = [
    "\n",
    "\r",
    "\r\n",
    "\t",
    "\0",
    "\x1b[2J",
    "\x7f",
    "\x85",
    "\u2028",
    "\u2029",
    "\u202e",
    "\u200b",
    "\udcff",
]


@pytest.mark.parametrize("characters", UNPRINTABLE)
@pytest.mark.parametrize(
    ("field", "settings"),
    {
        "the name of the job": {"name": "x{}touch pwned"},
        "--run": {"run": "runs/x{}touch pwned"},
        "the current folder": {"folder": "/home/x{}touch pwned"},
        "the path of Python": {"python": "/x{}touch pwned/python"},
        "--gpu": {"gpu": "h100{}#SBATCH --x"},
        "--partition": {"partition": "big{}#SBATCH --x"},
        "--package": {"package": "nudge-lm{}"},
        "--data": {"options": (("--steps", "3"), ("--data", "x{}.txt"))},
        "--tokenizer": {"options": (("--tokenizer", LocalPath("{}")),)},
    }.items(),
)
def test_a_field_that_is_not_one_printable_line_is_named(characters: str, field: str, settings: dict[str, Any]):
    def filled(value: Any) -> Any:
        return value.format(characters) if isinstance(value, str) else tuple(filled(one) for one in value)

    with pytest.raises(ConfigError) as raised:
        job(**{name: filled(value) for name, value in settings.items()})
    assert raised.value.code == "config.job_unprintable"
    assert raised.value.values["field"] == field
    assert raised.value.message.isprintable()


@pytest.mark.parametrize("on", ["local", "slurm", "skypilot --gpu h100"])
def test_no_job_is_written_in_a_folder_whose_name_has_two_lines(tmp_path: Path, on: str, monkeypatch):
    folder = tmp_path / "data\ntouch pwned\n"
    folder.mkdir()
    (folder / "text.txt").write_text("the quick brown fox. " * 200)
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError) as raised:
        launch("--on", *on.split(), "--out", str(tmp_path / "job"), "--", "--data", "text.txt")
    assert (raised.value.code, raised.value.values["field"]) == ("config.job_unprintable", "the current folder")
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("field", ["what text.txt links to", "--run"])
def test_a_link_to_a_name_with_two_lines_is_not_carried(tmp_path: Path, field: str):
    (tmp_path / "a\ntouch pwned").mkdir()
    (tmp_path / "text.txt").symlink_to("a\ntouch pwned")
    settings = {"run": "text.txt"} if field == "--run" else {"options": (("--data", LocalPath("text.txt")),)}
    with pytest.raises(ConfigError) as raised:
        skypilot.task_yaml(job(folder=str(tmp_path), gpu="h100", **settings))
    assert (raised.value.code, raised.value.values["field"]) == ("config.job_unprintable", field)


@pytest.mark.parametrize(
    "name", ["a b", "말뭉치", "a\xa0b", "a\u3000b", "👩\u200d🔬", "می\u200cخواهم", "$(touch pwned)"]
)
def test_a_name_that_people_write_is_not_refused(name: str):
    for write in (local.script, slurm.batch_script):
        assert shlex.quote(f"/{name}") in write(job(folder=f"/{name}"))


@pytest.mark.parametrize(
    ("typed", "error", "expected"),
    [
        ("--on slurm --spot --", ConfigError, "--spot"),
        ("--on local --partition big --", ConfigError, "--partition"),
        ("--on skypilot --gpu h100 -- --config paths.toml", ConfigError, "말뭉치"),
        ("--on slurm -- --data nowhere.txt", DataError, "nowhere.txt"),
        ("--on slurm -- --init nowhere", CheckpointError, "nowhere"),
        ("--on slurm -- --init broken", CheckpointError, "broken"),
        ("--on slurm -- --data text --tokenizer gtp2", TokenizerError, "gtp2"),
        ("--on slurm -- --data text --tokenizer nowhere.json", TokenizerError, "nowhere.json"),
        ("--on slurm -- --set train.lrr=1", ConfigError, "train.lrr"),
        ("--on slurm -- --set train.lr=-1", ConfigError, "train.lr must be"),
        ("--on slurm -- --recipe tinny", ConfigError, "tinny"),
        ("--on slurm -- book.txt", ConfigError, "unexpected 'book.txt'"),
    ],
)
def test_a_mistake_costs_no_time_in_a_queue(here: Path, typed: str, error: type[NudgeError], expected: str):
    Path("paths.toml").write_text(f"[data]\npaths = [{json.dumps(str(here))}]\n", encoding="utf-8")
    Path("broken").write_bytes(b"PK")
    Path("text").symlink_to(f"{NASTY}.txt")
    with pytest.raises(error) as raised:
        launch(*typed.split())
    assert expected in raised.value.message


@pytest.mark.parametrize(
    ("place", "training", "code"),
    [
        ("--on local --per-node 3", "", "config.uneven_share"),
        ("--on slurm --nodes 2 --per-node 8", "", "config.uneven_share"),
        ("--on skypilot --gpu h100 --nodes 4 --per-node 4", "", "config.uneven_share"),
        ("--on local --per-node 4", "--set train.micro_batch=4", "config.uneven_share"),
        ("--on local", "--set train.batch_tokens=1000", "config.partial_window"),
        ("--on local --per-node 4", "--set train.micro_batch=2", None),
        ("--on slurm --nodes 2 --per-node 4", "", None),
    ],
)
def test_a_batch_that_the_processes_cannot_share_is_refused_as_train_does(
    here: Path, place: str, training: str, code: str | None
):
    """8 windows in an update."""
    eight = ["--set", "model.block_size=128", "--set", "train.batch_tokens=1024", *training.split()]
    if code is None:
        assert "nudge train" in launch(*place.split(), "--", *eight)
        return
    with pytest.raises(ConfigError) as raised:
        launch(*place.split(), "--out", "job", "--", *eight)
    assert raised.value.code == code
    assert not Path("job").exists()
    if code == "config.uneven_share":
        assert raised.value.values["fitting"] == ("1, 2" if "micro_batch" in training else "1, 2, 4, 8")


@pytest.mark.slow
@pytest.mark.parametrize(("per_node", "fits"), [(2, True), (3, False)])
def test_a_fine_tuning_job_is_checked_with_the_sizes_of_its_parent(
    here: Path, trained: Path, per_node: int, fits: bool
):
    """The windows of an update are as long as the parent's context, not as the recipe says."""
    parent = newest_run(trained)
    block_size = checkpoint.find(parent, verify=False).config.model.block_size
    typed = ["--init", str(parent), "--set", f"train.batch_tokens={4 * block_size}"]
    if fits:
        assert "--init" in launch("--on", "local", "--per-node", str(per_node), "--", *typed)
        return
    with pytest.raises(ConfigError) as raised:
        launch("--on", "local", "--per-node", str(per_node), "--", *typed)
    assert (raised.value.code, raised.value.values["n_windows"]) == ("config.uneven_share", 4)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("-- --steps 3", "--on"),
        ("--on kubernetes --", "kubernetes"),
        ("--on slurm -- --stepz 3", "--stepz"),
        ("--on slurm --nodes two --", "two"),
    ],
)
def test_a_word_that_no_command_knows(typed: str, expected: str):
    with pytest.raises(click.UsageError) as raised:
        launch(*typed.split())
    assert expected in raised.value.format_message()


def test_a_job_without_a_name_begins_a_run_of_its_own(here: Path):
    Path("runs/llm_viz").mkdir(parents=True)
    assert "\nrun=runs/llm_viz-2\n" in launch("--on", "local", "--", "--recipe", "llm_viz")
    assert "\nrun=runs/first\n" in launch("--on", "local", "--name", "first", "--", "--recipe", "llm_viz")


FITS = ("--", "--set", "train.batch_tokens=131072")


def test_too_many_processes_for_this_machine_are_a_note(here: Path):
    result = click.testing.CliRunner().invoke(cli.load("launch"), ["--on", "local", "--per-node", "512", *FITS])
    assert result.exit_code == 0
    assert "note: 512 processes" in result.stderr


def test_a_file_that_is_no_job_is_not_written_over(here: Path):
    Path("mine.sh").write_text("echo mine\n")
    with pytest.raises(ConfigError) as refused:
        launch("--on", "local", "--out", "mine.sh", "--")
    assert refused.value.code == "config.not_a_job"
    assert Path("mine.sh").read_text() == "echo mine\n"
    for _ in range(2):
        launch("--on", "local", "--out", "job.sh", "--")
    with pytest.raises(MachineError) as failed:
        launch("--on", "local", "--out", "mine.sh/job.sh", "--")
    assert failed.value.code == "machine.cannot_write_out"
    Path("jobs").mkdir()
    with pytest.raises(click.UsageError, match="'jobs' is a directory"):
        launch("--on", "local", "--out", "jobs", "--")


@pytest.mark.parametrize(("on", "tool"), [("slurm", "sbatch"), ("skypilot", "sky")])
def test_an_engine_that_is_not_here_is_named(here: Path, monkeypatch: pytest.MonkeyPatch, on: str, tool: str):
    monkeypatch.setenv("PATH", str(here))
    with pytest.raises(MachineError) as raised:
        launch("--on", on, "--gpu", "h100", "--submit", "--")
    assert (raised.value.code, raised.value.values["program"]) == ("machine.no_such_program", tool)
    assert raised.value.hint == ENGINES[on].install
    assert not list(here.glob("tiny*"))
