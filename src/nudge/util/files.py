"""Write files so that a crash at any moment leaves either the old content or the new, never a mixture.

Only JSON lines are appended: there a crash can cut off the last line, which readers skip.
"""

import contextlib
import errno
import functools
import glob
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import IO, Any

from nudge.errors import ConfigError, MachineError

LONGEST_NAME = 255  # bytes
LEFT_OVER_S = 24 * 3600  # without a write: then a temporary file of another machine is taken for left over


class HashingFile:
    """A binary file that hashes the data while it is written, so that the file need not be read for its checksum."""

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


# Before Python 3.14 pathlib raises for a name that the system refuses (300 characters, a zero byte); os.path says no.
def exists(path: Path) -> bool:
    """Return whether there is a file or folder of this name, whatever the name is."""
    return os.path.exists(path)  # noqa: PTH110


def is_file(path: Path) -> bool:
    """Return whether there is a file of this name, whatever the name is."""
    return os.path.isfile(path)  # noqa: PTH113


def is_regular(path: Path) -> bool:
    """Return whether it is a file, and no link, pipe or device. To open a pipe may wait forever."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def is_dir(path: Path) -> bool:
    """Return whether there is a folder of this name, whatever the name is."""
    return os.path.isdir(path)  # noqa: PTH112


@contextlib.contextmanager
def writing(path: Path, refusal: Callable[[str], MachineError] | None = None) -> Iterator[None]:
    """Turn what the system refuses (a full disk, a missing permission) into a MachineError about `path`, or `refusal`.

    Blocks may be nested: the outer one decides, so that no error names a file in a temporary folder.
    """
    refusal = refusal or (lambda error: MachineError("not_written", path=path, error=error))
    try:
        yield
    except OSError as error:
        raise refusal(error.strerror or str(error)) from error
    except MachineError as error:
        if error.name != "not_written":
            raise
        raise refusal(error.values["error"]) from error


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[HashingFile]:
    """Open `path` for writing. It appears whole when the block ends, or not at all if the block raises.

    The bytes are written to a temporary file beside it, which is fsynced and renamed. Then the folder is fsynced,
    because a power failure would undo a rename that is only in memory.

    Raises: MachineError, also if `path` is a folder or a device: the rename would replace /dev/null by a file.
    """
    with writing(path):
        if path.exists() and not path.is_file():
            raise FileExistsError(errno.EEXIST, "it exists and is not a file", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(path)
        opened = temporary.open("xb")  # x: it must not exist, not even as a link
        try:
            with opened as file:
                yield HashingFile(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to report
                temporary.unlink()
            raise
        fsync(path.parent)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Create a folder for the block to fill. It appears as `path` when the block ends, or not at all if it raises.

    Raises: ConfigError if `path` exists and is not an empty folder; MachineError if it cannot be written.
    """
    path = path.resolve()
    with writing(path):
        check_new_folder(path)
        temporary = temporary_path(path)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for content in temporary.rglob("*"):
                fsync(content)
            if path.exists():
                path.rmdir()  # an empty folder; only POSIX can rename onto it
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        fsync(path.parent)


def check_new_folder(path: Path) -> None:
    """Check that `path` does not exist, or is an empty folder. Raises: ConfigError."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError("folder_not_empty", path=path.resolve())


def temporary_path(path: Path) -> Path:
    """Return a new name beside `path` to rename from; remove what killed processes left under such names.

    The name is `.NAME.PLACE.PID.RANDOM.part`. Nobody can guess it, so nobody can put a link or a file there first. NAME
    is cut: a name of 255 bytes is the longest.
    """
    start = f".{path.name[:50]}."
    left_over = re.compile(re.escape(start) + r"([0-9a-f]{8})\.([0-9]{1,9})\.[0-9a-f]{16}\.part")
    for other in path.parent.glob(f"{glob.escape(start)}*.part"):
        if (found := left_over.fullmatch(other.name)) and _is_left_over(found[1], int(found[2]), other):
            with contextlib.suppress(OSError):  # it is harmless
                remove(other)
    return path.with_name(f"{start}{_place_of_pids()}.{os.getpid()}.{secrets.token_hex(8)}.part")


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder. Raises: OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@functools.cache
def _place_of_pids() -> str:
    """Return 8 digits for this host, boot and container: elsewhere the same process id is another process."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):  # Linux only
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text("ascii"), str(Path("/proc/self/ns/pid").readlink())]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]


def _is_left_over(place: str, pid: int, path: Path) -> bool:
    """Return whether the process that wrote `path` has ended. From another place, only the age of `path` tells."""
    import psutil  # here, because it would slow down 'nudge runs'

    try:
        if place != _place_of_pids():
            return max(one.lstat().st_mtime for one in (path, *path.rglob("*"))) < time.time() - LEFT_OVER_S
        return psutil.Process(pid).create_time() > path.lstat().st_mtime  # a younger process with the same id
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, OSError):  # no permission, or another process has just removed it
        return False


def fsync(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk so that they survive a power failure. Does nothing on Windows."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Replace the content of `path` with `text`, atomically. Raises: MachineError."""
    with atomic_writer(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replace the content of `path` with `value` as indented JSON, atomically. Raises: MachineError."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def point_to(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to `target`, atomically.

    If the file system has no symbolic links, make a hard link, or else a copy (as in a mounted bucket).

    Raises: MachineError.
    """
    with writing(link):
        temporary = temporary_path(link)
        try:
            temporary.symlink_to(os.path.relpath(target, link.parent))
        except OSError:
            try:
                os.link(target, temporary)
            except OSError:
                _copy(target, temporary)
        temporary.replace(link)
        fsync(link.parent)


def _copy(source: Path, copy: Path) -> None:
    """Copy a file to a new one, which is removed if the copy fails. Raises: OSError."""
    opened = copy.open("xb")
    try:
        with source.open("rb") as file, opened:
            shutil.copyfileobj(file, opened)
        fsync(copy)
    except BaseException:
        with contextlib.suppress(OSError):
            copy.unlink()
        raise


def check_name(name: str) -> str:
    """Return the name of a file as another file gives it. It must stay in its folder, on every operating system.

    Raises: ValueError for a path, a drive, a hidden file, what cannot be printed or is longer than a name can be.
    """
    if (
        not name
        or name.startswith(".")
        or not name.isprintable()
        or any(one in name for one in "/\\:")
        or len(name.encode()) > LONGEST_NAME
    ):
        raise ValueError(f"{name[:80]!r} is not the name of a file in this folder")
    return name


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append_json(file: FileIO, value: dict[str, Any], *, sync: bool = False) -> None:
    """Append one line of JSON, which stays if the process is killed.

    `sync`: the line also survives a power failure, at the cost of a few milliseconds.

    Raises: MachineError; then the line may be cut off. `open_json_lines` ends it, and readers skip it.
    """
    line = memoryview(json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n")
    with writing(Path(file.name)):
        while line:  # a disk that is nearly full takes a part of it
            line = line[file.write(line) :]
        if sync:
            os.fsync(file.fileno())


def open_json_lines(path: Path) -> FileIO:
    """Open a JSON-lines file for appending. If its last line was cut off, end that line first. Raises: MachineError.

    The file has no buffer, so nothing is left to write, and to fail, when it is closed.
    """
    with writing(path):
        file = path.open("ab+", buffering=0)
        try:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
        except OSError:
            file.close()
            raise
    return file


def cache_folder() -> Path:
    """Return the folder named by NUDGE_CACHE, or else the operating system's folder for caches."""
    if given := os.environ.get("NUDGE_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "nudge"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "nudge"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nudge"
