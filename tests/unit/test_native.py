"""Compiling the kernels and finding them again; what they compute is tested beside who calls them."""

import subprocess
from pathlib import Path

import pytest

from nudge.fast import native


@pytest.mark.parametrize("source", ["decode.c", "layers.c", "layers.c -DBF16", "reading.c"])
def test_the_kernels_compile_without_a_warning(tmp_path: Path, source: str) -> None:
    name, *defines = source.split()
    flags = [
        *native.FLAGS,
        *native.FLAGS_OF.get(Path(name).stem, ()),
        "-fopenmp",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-psabi",
        *defines,
    ]
    command = ["cc", *flags, "-c", "-o", tmp_path / "kernels.o", Path(native.__file__).with_name(name)]
    subprocess.run(command, check=True)


def test_a_changed_header_is_compiled_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "__file__", str(tmp_path / "__init__.py"))
    (tmp_path / "answer.c").write_text('#include "numbers.h"\nint answer(void) { return ANSWER; }\n')
    load = native.load.__wrapped__  # as another process would, which remembers nothing
    for answer in (41, 42, 41):
        (tmp_path / "numbers.h").write_text(f"#define ANSWER {answer}\n")
        assert load("answer").answer() == answer
