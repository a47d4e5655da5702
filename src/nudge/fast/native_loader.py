"""The C kernels: small files of plain C, compiled at first use on the machine they run on, and called through ctypes.

Why not wheels: `-march=native` on the user's own machine beats anything that was built for every machine. Why not
PyTorch's headers: a plain C ABI compiles in two seconds, with any compiler, for any version of PyTorch. Everything
that a kernel computes can also be computed without it; the caller of `load` decides what to do when it is unavailable.

A compiler without OpenMP, or for another runtime than the one that PyTorch has loaded, compiles them for one thread. On
Windows nothing is compiled: they have never run there.

A library from the cache runs as this user, so it is loaded only from where nobody else can have written it.

`CC` and `CFLAGS` have their usual meaning: another compiler, and more options. `CFLAGS` come last and win, so
`CFLAGS=-march=x86-64-v3` compiles for an older processor.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nudge.util.cpu import instruction_set
from nudge.util.files import cache_folder, temporary_path

# Not -ffast-math: it assumes that there are no infinities, and a training step must see them. Not -ffp-contract=fast:
# the compiler would then round some a * b + c once and others twice, and decode.c promises the same sum for one text
# and for many.
FLAGS: tuple[str, ...] = ("-O3", "-march=native", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off")
if sys.platform == "darwin":  # Apple's compiler compiles for Apple's processors, and does not know this option
    FLAGS = tuple(flag for flag in FLAGS if flag != "-march=native")
FLAGS_OF = {"layers": ("-ffp-contract=fast",)}  # layers.c makes no such promise; this makes it up to 10% faster
# Apple's compiler knows OpenMP, but not by the usual option. (Source: mac.r-project.org/openmp)
OPENMP = ("-Xclang", "-fopenmp") if sys.platform == "darwin" else ("-fopenmp",)
NO_OPENMP = ("-fopenmp-simd",)  # its vectors, but not its threads
COMPILE_TIMEOUT_S = 120
ROOM_BYTES = 4 << 20  # more than a library and its object file need
SOURCES = Path(__file__).with_name("native")


class UnavailableError(Exception):
    """The kernels are unavailable on this machine; the message gives the reason in one line."""


@functools.cache
def load(name: str, *defines: str) -> ctypes.CDLL:
    """Return the functions of native/NAME.c, compiled with the macros `defines`, or from the cache.

    The kernels use the OpenMP runtime that PyTorch has loaded, so import torch first. Two runtimes would keep two teams
    of threads, and each would spin on the cores that the other needs.

    Raises: UnavailableError.
    """
    source = SOURCES / f"{name}.c"
    # The key covers all headers, included or not: they are few and seldom change.
    texts = [path.read_bytes() for path in (source, *sorted(SOURCES.glob("*.h")))]
    options = [*FLAGS, *FLAGS_OF.get(name, ()), *(f"-D{define}" for define in defines)]
    command = [*_compiler(), *options, *shlex.split(os.environ.get("CFLAGS", ""))]
    runtime = _loaded_openmp()
    key = hashlib.sha256(
        repr((texts, command, OPENMP, _version(command[0]), str(runtime), instruction_set())).encode()
    ).hexdigest()
    folder, file = _private_cache(), f"{name}-{key[:16]}.so"
    with contextlib.suppress(OSError):  # missing or damaged: compile it again
        if folder and _is_private((folder / file).lstat()):
            return ctypes.CDLL(str(folder / file))
    try:
        return _compile(source, command, runtime, folder, file)
    except OSError as error:
        raise UnavailableError(f"the compiled kernels cannot be loaded: {error}") from error


def _private_cache() -> Path | None:
    """Return the folder of compiled kernels; None if it cannot be made, or if another user can write to it."""
    cache = cache_folder()
    try:
        for folder in (cache, cache / "kernels"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if sys.platform != "win32" and not os.environ.get("NUDGE_CACHE") and folder.stat().st_uid == os.geteuid():
                folder.chmod(folder.stat().st_mode & ~0o022)  # it may be older, and made with the umask 002
            if not _is_private(folder.stat()):
                return None
    except OSError:
        return None
    return cache / "kernels"


def _is_private(status: os.stat_result) -> bool:
    """Return whether a file or folder, not a link, is this user's and nobody else can write to it."""
    if sys.platform == "win32":
        return True  # Windows keeps other users out of a user's folders by other means
    return not stat.S_ISLNK(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def is_serial(library: ctypes.CDLL) -> bool:
    """Return whether a library was compiled without OpenMP: it computes on one thread."""
    return hasattr(library, "nudge_serial")


def _compile(source: Path, command: list[str], runtime: Path | None, folder: Path | None, file: str) -> ctypes.CDLL:
    """Compile beside the cached file, then rename, so that several processes can compile at once.

    Without a folder for the cache, or room in it, compile for this process alone.
    """
    if folder and shutil.disk_usage(folder).free < ROOM_BYTES:
        folder = None
    try:
        work = temporary_path((folder or Path(tempfile.gettempdir())) / file)
        work.mkdir(mode=0o700)
    except OSError:  # a read-only cache
        work = Path(tempfile.mkdtemp())
    try:
        built = work / file
        try:
            loaded = _build(source, command, built, OPENMP, _link_options(runtime))
        except (UnavailableError, OSError):
            loaded = _build(source, command, built, NO_OPENMP, [])
        if folder:
            with contextlib.suppress(OSError):
                built.chmod(0o700)
                built.replace(folder / file)
        return loaded
    finally:
        shutil.rmtree(work, ignore_errors=True)  # the library stays loaded without its file


def _build(source: Path, command: list[str], built: Path, openmp: tuple[str, ...], link: list[str]) -> ctypes.CDLL:
    """Compile, link and load. Raises: UnavailableError, or OSError if what was built cannot be loaded."""
    object_file = built.with_suffix(".o")
    _run([*command, *openmp, "-c", "-o", str(object_file), str(source)])
    _run([command[0], "-shared", "-o", str(built), str(object_file), *link, "-lm"])
    return ctypes.CDLL(str(built))


def _link_options(runtime: Path | None) -> list[str]:
    """Return what links a library to the OpenMP runtime of this process."""
    if sys.platform == "darwin":  # its functions are found when the library is loaded, as Python's are by extensions
        return ["-undefined", "dynamic_lookup"]
    return [str(runtime)] if runtime else ["-fopenmp"]


def _compiler() -> list[str]:
    """Return the C compiler's command: CC, or else the first one found. Raises: UnavailableError."""
    if sys.platform == "win32":
        raise UnavailableError("the C kernels are not for Windows yet")
    if command := shlex.split(os.environ.get("CC", "")):
        return command
    found = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if found is None:
        raise UnavailableError("no C compiler here (cc, gcc or clang)")
    return [found]


def _run(command: list[str]) -> str:
    """Run the compiler and return its output. Raises: UnavailableError."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=COMPILE_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"the C compiler does not run: {error}") from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        message = next((line for line in lines if "error" in line), lines[0])
        raise UnavailableError(f"{Path(command[0]).name} cannot compile the kernels: {message}")
    return done.stdout


@functools.cache
def _version(compiler: str) -> str:
    return _run([compiler, "--version"])


def _loaded_openmp() -> Path | None:
    """Return the OpenMP runtime of this process, if it can be found (LLVM's and Intel's also have GNU's functions)."""
    loaded = "\n".join(_loaded_libraries())
    found = re.search(r"/.*/lib(?:g|i|)omp[^/\n]*\.(?:so|dylib).*", loaded)
    if found and sys.platform == "darwin":
        ctypes.CDLL(found[0], ctypes.RTLD_GLOBAL)  # already loaded; now other libraries find its functions
    return Path(found[0]) if found else None


def _loaded_libraries() -> Iterator[str]:
    """Yield a line for each library of this process, which ends with its path."""
    if sys.platform == "darwin":
        system = ctypes.CDLL(None)
        system._dyld_get_image_name.restype = ctypes.c_char_p
        for i in range(system._dyld_image_count()):
            yield os.fsdecode(system._dyld_get_image_name(i) or b"")
    else:
        with contextlib.suppress(OSError):
            yield Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")
