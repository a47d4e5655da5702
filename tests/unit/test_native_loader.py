"""Compiling the kernels and caching them; test_kernels.py and test_decoder.py test what they compute."""

import subprocess
from pathlib import Path

import pytest

from nudge.fast import native_loader


@pytest.mark.parametrize("source", ["decode.c", "layers.c", "layers.c -DBF16", "memory_bandwidth.c"])
def test_the_kernels_compile_without_a_warning(tmp_path: Path, source: str) -> None:
    name, *defines = source.split()
    flags = [*native_loader.FLAGS, *native_loader.FLAGS_OF.get(name.removesuffix(".c"), ())]
    flags += ["-fopenmp", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", *defines]
    command = ["cc", *flags, "-c", "-o", tmp_path / "kernels.o", native_loader.SOURCES / name]
    subprocess.run(command, check=True)


def test_a_changed_header_is_compiled_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_loader, "SOURCES", tmp_path)
    (tmp_path / "answer.c").write_text('#include "numbers.h"\nint answer(void) { return ANSWER; }\n')
    load = native_loader.load.__wrapped__  # without the cache of this process
    for answer in (41, 42, 41):
        (tmp_path / "numbers.h").write_text(f"#define ANSWER {answer}\n")
        assert load("answer").answer() == answer
