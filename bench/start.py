"""The time until a command answers: the best of several tries, so that a busy machine gives the figure of an idle one.

    python bench/start.py [--tries 5]

Prints seconds of wall clock and of CPU time. Help and completion should take at most 0.3 s, to feel immediate.
Commands that compute with a network import PyTorch, which takes most of the time of a short command.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time

COMPLETING = {"_NUDGE_COMPLETE": "bash_complete", "COMP_WORDS": "nudge train --", "COMP_CWORD": "2"}
COMMANDS: dict[str, tuple[list[str], dict[str, str]]] = {
    "nudge --help": (["--help"], {}),
    "nudge --version": (["--version"], {}),
    "nudge train --help": (["train", "--help"], {}),
    "nudge train --<TAB>": ([], COMPLETING),
    "nudge runs": (["runs"], {}),
    "nudge plan": (["plan"], {}),
    "nudge train, one update": (["train", "--recipe", "llm_viz", "--steps", "1", "--json"], {}),
    "nudge sample, one token": (["sample", "--prompt", "A", "--max-tokens", "1"], {}),
}


def main() -> None:
    """Print a line for each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=5)
    tries = parser.parse_args().tries
    print(f"{'':26}{'seconds':>9}{'computing':>11}")
    with tempfile.TemporaryDirectory() as folder:
        for name, (args, environment) in COMMANDS.items():
            wall_s, computing_s = map(min, zip(*(once(args, environment, folder) for _ in range(tries)), strict=True))
            print(f"{name:26}{wall_s:9.2f}{computing_s:11.2f}", flush=True)


def once(args: list[str], environment: dict[str, str], folder: str) -> tuple[float, float]:
    """Return the seconds of one run by the clock, and its CPU time."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "nudge", *args],
        check=True,
        capture_output=True,
        cwd=folder,
        env={**os.environ, **environment},
    )
    wall_s, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
