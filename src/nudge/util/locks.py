"""Locks between processes: the operating system's or, on a disk without them, a file that names its holder."""

import contextlib
import errno
import os
import sys
from pathlib import Path

import filelock

HELD = ".held"  # the end of a lock that is a file; not the same file, which the other kind leaves behind, unlocked


def make_lock(path: Path) -> filelock.BaseFileLock:
    """Return a lock whose file is `path`, or `path` + HELD on a disk without locks. Its folder must exist.

    The operating system releases its lock however the process ends. The file of the other kind stays after a crash: it
    holds a process id and a host, so that the next process on that host finds out. On another host, see `holder`.
    """
    if has_locks(path.parent):
        return filelock.FileLock(path, thread_local=False)
    return filelock.SoftFileLock(f"{path}{HELD}", thread_local=False)


def has_locks(folder: Path) -> bool:
    """Return whether the disk of a folder has locks of the operating system. Some network file systems have none.

    True if there is no such folder here: of several processes, only the first needs to see the run's.
    """
    if sys.platform == "win32":  # which has them
        return True
    import fcntl

    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # comes again with the lock itself
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:  # any other error says that it is taken, or comes again with the lock itself
        return error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP)
    finally:
        os.close(handle)
    return True


def holder(lock: filelock.BaseFileLock) -> tuple[str, str] | None:
    """Return the process id and the host in the file of a lock; None for a lock of the operating system."""
    if isinstance(lock, filelock.SoftFileLock):
        with contextlib.suppress(OSError, ValueError):  # released meanwhile
            process, host = Path(lock.lock_file).read_text(encoding="utf-8").split()[:2]
            return process, host
    return None
