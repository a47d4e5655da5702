"""Makes this process look like Windows to nudge: its modules and its tests find nothing that only POSIX has.

Only `import` in their own code is answered differently; Python's and other libraries find the real modules. Names:
Python's documentation, "Availability: Unix".
"""

import builtins
import errno
import os
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MISSING = {
    "crypt",
    "curses",
    "fcntl",
    "grp",
    "pty",
    "pwd",
    "readline",
    "resource",
    "spwd",
    "syslog",
    "termios",
    "tty",
}
HIDDEN = {
    "mmap": "MADV_HUGEPAGE MAP_PRIVATE MAP_SHARED MAP_ANONYMOUS PROT_READ PROT_WRITE",
    "os": "O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK SEEK_DATA WNOHANG chown confstr ctermid fchdir fchown fork"
    " forkpty getegid geteuid getgid getgroups getloadavg getpgid getpgrp getpriority getsid getuid killpg"
    " lchown mkfifo mknod nice openpty posix_fadvise posix_fallocate posix_spawn pread pwrite sched_getaffinity"
    " sched_setaffinity sendfile setpgid setsid setuid statvfs sync sysconf uname wait wait3 wait4 waitid",
    "select": "EPOLLIN POLLERR POLLHUP POLLIN epoll poll",
    "signal": "SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 SIGWINCH SIGXCPU"
    " alarm pause pthread_kill pthread_sigmask setitimer sigwait",
    "socket": "AF_UNIX SO_REUSEPORT",
    "sys": "abiflags",
    "time": "clock_gettime pthread_getcpuclockid tzset",
}


def _open(path: Any, *arguments: Any, **options: Any) -> int:
    if Path(path).is_dir():
        raise PermissionError(errno.EACCES, "a folder cannot be opened", str(path))
    return os.open(path, *arguments, **options)


OTHER: Mapping[str, Mapping[str, Any]] = {"os": {"name": "nt", "open": _open}, "sys": {"platform": "win32"}}


class Lesser(types.ModuleType):
    """A module without some of its names."""

    def __init__(self, real: types.ModuleType) -> None:
        super().__init__(real.__name__)
        vars(self).update(_real=real, _hidden=HIDDEN[real.__name__].split(), **OTHER.get(real.__name__, {}))

    def __getattr__(self, name: str) -> Any:
        if name in self._hidden:
            raise AttributeError(f"Windows has no {self._real.__name__}.{name}")
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real, name, value)


def pretend() -> None:
    """From now on nudge believes that it runs on Windows, and nobody may make symbolic links."""
    really_import = builtins.__import__
    lesser = {name: Lesser(really_import(name)) for name in HIDDEN}

    def import_(
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> types.ModuleType:
        if str((globals or {}).get("__name__")).startswith(("nudge", "test", "conftest")):
            if name in MISSING:
                raise ModuleNotFoundError(f"Windows has no module {name!r}", name=name)
            if name in lesser:
                return lesser[name]
        return really_import(name, globals, locals, fromlist, level)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "a privilege that the client does not hold")

    builtins.__import__ = import_
    os.symlink = refuse
