"""Write files so that a crash at any moment leaves either the old content or the new, never a mixture."""

import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from nudge.errors import ConfigError, MachineError, RunError, first_line


class HashingFile:
    """A binary file that hashes what is written to it, so that a checksum costs no second read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.sha256 = hashlib.sha256()
        self.n_bytes = 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.n_bytes += memoryview(data).nbytes
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[HashingFile]:
    """Open `path` for writing. It appears whole when the block ends, or not at all if the block raises.

    The bytes go to a temporary file beside it, which is fsynced and renamed; then the folder is fsynced, because a
    rename that exists in memory only is lost in a power cut.

    Raises: OSError, also for a `path` that is a folder or a device: the rename would put a file in place of /dev/null.
    """
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "it exists and is not a file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            yield HashingFile(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync(path.parent)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Make a folder to fill. It appears whole as `path` when the block ends, or not at all if the block raises.

    Raises: ConfigError if `path` exists and is not an empty folder; MachineError on a full disk and the like.
    """
    path = path.resolve()
    temporary = _temporary(path)
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError("folder_not_empty", path=path)
        temporary.mkdir(parents=True)
        yield temporary
        for content in temporary.rglob("*"):
            fsync(content)
        if path.exists():
            path.rmdir()  # it is empty; only POSIX renames onto a folder
        temporary.replace(path)
        fsync(path.parent)
    except OSError as error:
        raise MachineError("not_written", path=path, error=error.strerror or str(error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    """Return where this process makes what will become `path`; remove what killed processes left there."""
    for left_over in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        pid = left_over.name[len(f".{path.name}.") : -len(".part")]
        if pid.isdecimal() and len(pid) < 10 and _is_gone(int(pid), left_over):
            if left_over.is_dir() and not left_over.is_symlink():
                shutil.rmtree(left_over, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):  # it does no harm
                    left_over.unlink()
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _is_gone(pid: int, path: Path) -> bool:
    """Whether the process that wrote `path` has ended. A younger one may have its number, above all in a container."""
    import psutil  # here, so that listing runs stays fast

    try:
        return psutil.Process(pid).create_time() > path.lstat().st_mtime
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, OSError):  # no permission, or another process has just removed it
        return False


def fsync(path: Path) -> None:
    """Make a file's content, or the names in a folder, survive a power cut (POSIX; Windows has no such call)."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Replace the text of `path` atomically."""
    with atomic_writer(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replace `path` atomically by `value` as indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def point_to(link: Path, target: Path) -> None:
    """Make `link` point to `target` atomically: a relative symbolic link, or a hard link where there are none.

    Where there is neither, such as in a bucket that is mounted, it is a copy.
    """
    temporary = _temporary(link)
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(os.path.relpath(target, link.parent))
    except OSError:
        try:
            os.link(target, temporary)
        except OSError:
            shutil.copyfile(target, temporary)
            fsync(temporary)
    temporary.replace(link)
    fsync(link.parent)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append_json(file: IO[str], value: dict[str, Any], *, sync: bool = False) -> None:
    """Append one line of JSON and flush it, so that a killed process loses no line.

    `sync`: it also survives a power cut, which takes a few milliseconds.
    """
    file.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    file.flush()
    if sync:
        os.fsync(file.fileno())


def open_json_lines(path: Path) -> IO[str]:
    """Open a JSON-lines file for appending; a torn last line (power cut) is ended first."""
    torn = False
    if path.exists() and path.stat().st_size > 0:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
    file_out = path.open("a", encoding="utf-8")
    if torn:
        file_out.write("\n")
    return file_out


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON-lines file in order, without the lines that a crash tore."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            with contextlib.suppress(json.JSONDecodeError):
                value = json.loads(line)
                if isinstance(value, dict):
                    yield value


def read_json(path: Path) -> Any:
    """Return the value of a JSON file. Raises: RunError if it cannot be read, for whatever reason."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError("unreadable_json", path=path, error=first_line(error)) from error


def cache_folder() -> Path:
    """Return NUDGE_CACHE, or the folder that the operating system has for caches."""
    if given := os.environ.get("NUDGE_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "nudge"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "nudge"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nudge"
