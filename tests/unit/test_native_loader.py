"""Compiling the kernels and caching them; test_kernels.py and test_decoder.py test what they compute."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nudge.fast import native_loader

KERNELS = ["decode.c", "layers.c", "layers.c -DBF16", "memory_bandwidth.c"]
# With products of bytes and of bfloat16, with the former, without either, with AVX2, and from before it.
INTEL = ["sapphirerapids", "icelake-server", "x86-64-v4", "x86-64-v3", "x86-64-v2"]


def compiles(folder: Path, kernels: str, *options: str, compiler: str = "cc") -> None:
    """Compile kernels as the loader does, for a processor that need not be this one."""
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler} here")
    source, *defines = kernels.split()
    flags = [*native_loader.FLAGS, *native_loader.FLAGS_OF.get(source.removesuffix(".c"), ())]
    flags += [*options, "-Wall", "-Wextra", "-Werror", "-Wno-psabi", *defines]
    command = [compiler, *flags, "-c", "-o", folder / "kernels.o", native_loader.SOURCES / source]
    subprocess.run(command, check=True)


@pytest.mark.parametrize("kernels", KERNELS)
def test_the_kernels_compile_without_a_warning(tmp_path: Path, kernels: str) -> None:
    compiles(tmp_path, kernels, *native_loader.OPENMP)


@pytest.mark.parametrize("kernels", KERNELS)
def test_without_openmp_too(tmp_path: Path, kernels: str) -> None:
    compiles(tmp_path, kernels, *native_loader.NO_OPENMP, "-Wno-unused-parameter")


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names x86-64 processors")
@pytest.mark.parametrize("processor", INTEL)
@pytest.mark.parametrize("kernels", KERNELS)
def test_for_other_intel_and_amd_processors(tmp_path: Path, kernels: str, processor: str) -> None:
    compiles(tmp_path, kernels, *native_loader.OPENMP, f"-march={processor}")


# Apple's compiler is a Clang that knows OpenMP only by -Xclang, and has no omp.h.
@pytest.mark.slow
@pytest.mark.parametrize("target", [[], ["--target=aarch64-linux-gnu", "-march=armv8.4-a"]], ids=["here", "Arm"])
@pytest.mark.parametrize("openmp", [native_loader.NO_OPENMP, ("-Xclang", "-fopenmp")], ids=["serial", "openmp"])
@pytest.mark.parametrize("kernels", KERNELS)
def test_with_clang(tmp_path: Path, kernels: str, openmp: tuple[str, ...], target: list[str]) -> None:
    if target and not Path("/usr/aarch64-linux-gnu").exists():
        pytest.skip("no C library for Arm here (Debian: libc6-dev-arm64-cross)")
    other = [*openmp, *target, "-Wno-pass-failed", "-Wno-unused-parameter"]
    compiles(tmp_path, kernels, *other, compiler="clang")


def test_a_compiler_without_openmp_compiles_for_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = tmp_path / "without"
    without.write_text('#!/bin/sh\nfor each; do [ "$each" = -fopenmp ] && exit 1; done\nexec cc "$@"\n')
    without.chmod(0o700)
    load = native_loader.load.__wrapped__
    assert not native_loader.is_serial(load("decode"))
    monkeypatch.setenv("CC", str(without))
    monkeypatch.setenv("NUDGE_CACHE", str(tmp_path / "cache"))
    assert native_loader.is_serial(load("decode"))
    assert native_loader.is_serial(load("decode")), "and from the cache"


@pytest.mark.skipif(sys.platform == "win32", reason="no kernels are compiled there")
def test_the_kernels_use_the_openmp_that_pytorch_has_loaded() -> None:
    code = (
        "import torch; from nudge.fast import native_loader as n; before = n._loaded_openmp(); n.load('layers');"
        "print(before); print({line.split()[-1] for line in '\\n'.join(n._loaded_libraries()).splitlines()"
        " if 'omp' in line.rpartition('/')[2] and line.rpartition('/')[2].startswith('lib')})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, loaded = done.stdout.splitlines()
    assert loaded == repr({before})


def test_a_changed_header_is_compiled_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_loader, "SOURCES", tmp_path)
    (tmp_path / "answer.c").write_text('#include "numbers.h"\nint answer(void) { return ANSWER; }\n')
    load = native_loader.load.__wrapped__  # without the cache of this process
    for answer in (41, 42, 41):
        (tmp_path / "numbers.h").write_text(f"#define ANSWER {answer}\n")
        assert load("answer").answer() == answer


def answer() -> int:
    """Return what native/answer.c computes, loaded as a new process would load it."""
    return int(native_loader.load.__wrapped__("answer").answer())


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library of the cache; in place of the compiled one, which returns 41, it is one that returns 666."""
    for number in (41, 666):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "answer.c").write_text(f"int answer(void) {{ return {number}; }}\n")
    monkeypatch.setattr(native_loader, "SOURCES", tmp_path / "41")
    monkeypatch.setenv("NUDGE_CACHE", str(tmp_path / "cache"))
    assert answer() == 41
    (library,) = (tmp_path / "cache" / "kernels").iterdir()
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "666" / "answer.c"], check=True)
    library.chmod(0o700)
    return library


def test_a_library_that_only_this_user_can_have_written_is_loaded(planted: Path) -> None:
    assert answer() == 666


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o720])
@pytest.mark.parametrize("level", ["cache", "kernels", "library"])
def test_a_library_that_others_can_write_is_not_loaded(planted: Path, level: str, mode: int) -> None:
    path = {"cache": planted.parent.parent, "kernels": planted.parent, "library": planted}[level]
    path.chmod(mode)
    before = planted.read_bytes()
    assert answer() == 41
    if level == "library":
        assert planted.read_bytes() != before, "the file is replaced"
        assert planted.stat().st_mode & 0o777 == 0o700
    else:
        assert planted.read_bytes() == before, "such a folder is not written to"
    assert list(planted.parent.iterdir()) == [planted]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("level", ["cache", "kernels", "library"])
def test_a_library_of_another_user_is_not_loaded(planted: Path, level: str) -> None:
    path = {"cache": planted.parent.parent, "kernels": planted.parent, "library": planted}[level]
    os.chown(path, 12_345, 12_345)
    assert answer() == 41


def test_a_link_in_place_of_the_library_is_not_followed(planted: Path, tmp_path: Path) -> None:
    elsewhere = planted.rename(tmp_path / "elsewhere.so")
    planted.symlink_to(elsewhere)
    assert answer() == 41
    assert not planted.is_symlink()


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("variable", ["NUDGE_CACHE", "XDG_CACHE_HOME"])
def test_whatever_the_umask_the_next_process_finds_the_library(
    umask: None, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "answer.c").write_text("int answer(void) { return 41; }\n")
    monkeypatch.setattr(native_loader, "SOURCES", tmp_path)
    monkeypatch.delenv("NUDGE_CACHE", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "cache"))
    cache = tmp_path / "cache"
    if variable == "XDG_CACHE_HOME":
        cache = cache / "nudge"
        cache.mkdir(parents=True)  # as other parts of nudge make it
    assert answer() == 41
    (library,) = (cache / "kernels").iterdir()
    assert not any(path.stat().st_mode & 0o022 for path in (cache, cache / "kernels", library))
    monkeypatch.setattr(native_loader, "_compile", None)
    assert answer() == 41
