"""Nothing of nudge needs POSIX: it is imported, trains, samples and inspects where all that Windows lacks is hidden.

This finds a name that Windows does not have. It does not find what Windows does differently: see docs/systems.md.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def on_windows(code: str, *arguments: str, cwd: Path = ROOT) -> str:
    """Run code as on Windows; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", f"from tests.windows import pretend\npretend()\n{code}", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_pretence_hides_what_it_should():
    code = """
namespace = {"__name__": "nudge.example"}
for line in ("import fcntl", "import os; os.fork", "import signal; signal.SIGKILL", "import os; os.symlink('a', 'b')"):
    try:
        exec(line, namespace)
    except (ImportError, AttributeError, OSError) as error:
        print(type(error).__name__)
exec("import os, sys; print(os.name, sys.platform)", namespace)
import fcntl, os; print(os.name)
"""
    refused = ["ModuleNotFoundError", "AttributeError", "AttributeError", "PermissionError"]
    assert on_windows(code).split() == [*refused, "nt", "win32", "posix"]


@pytest.mark.slow
def test_every_module_is_imported():
    code = """
import importlib, pkgutil, nudge
names = [m.name for m in pkgutil.walk_packages(nudge.__path__, "nudge.") if not m.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
    assert int(on_windows(code)) > 200


@pytest.mark.slow
def test_the_tests_that_run_on_every_system_are_collected():
    code = """
import sys, pytest
sys.exit(pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", "-n", "0", *sys.argv[1:]]))
"""
    assert "test_kernels.py" in on_windows(code, "tests/unit", "tests/property", "tests/golden")


NUDGE = "import sys\nfrom nudge.cli import main\nsys.argv[0] = 'nudge'\nmain()"


@pytest.mark.slow
def test_a_run_is_trained_resumed_sampled_and_inspected(tmp_path: Path):
    (tmp_path / "text.txt").write_text("".join(f"{i} and {i} make {2 * i}.\n" for i in range(500)), encoding="utf-8")
    small = ["model.n_layer=1", "model.n_embd=16", "model.block_size=16", "train.batch_tokens=64", "save.every=2"]
    options = ["--tokenizer", "bytes", "--run", "run", "--steps", "4", *(f"--set={one}" for one in small)]
    trained = on_windows(NUDGE, "train", "--data", "text.txt", *options, cwd=tmp_path)
    assert "update eager: the C kernels are not for Windows yet" in trained
    assert not (tmp_path / "run" / "ckpt.pt").is_symlink()
    on_windows(NUDGE, "resume", "run", "--steps", "6", cwd=tmp_path)
    assert len(on_windows(NUDGE, "sample", "run", "--max-tokens", "5", cwd=tmp_path)) > 1
    inspected = json.loads(on_windows(NUDGE, "inspect", "run", "--json", cwd=tmp_path))
    assert inspected["step"] == 6
    assert "run" in on_windows(NUDGE, "runs", ".", cwd=tmp_path)
