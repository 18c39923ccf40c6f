"""The tree of processes below this one: who is in it, and how nobody leaves it.

A subreaper inherits the orphans of everything below it, so that a daemon that forked twice and began a session of its
own is still found. Linux only; elsewhere there is no such tree, and callers fall back to process groups.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Collection
from typing import NoReturn

from worker.errors import ConfigurationError

LINUX = sys.platform == "linux"

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_library = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Become the parent of every orphan among this process's descendants (subreaper).

    The caller must reap them. Lasts until the process ends, and over exec; not inherited by children. Raises
    OSError, and ConfigurationError where /proc would not show who they are.
    """
    if not LINUX:
        return
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        seen = os.readlink("/proc/self")
    except OSError as exc:
        raise ConfigurationError(f"/proc is not mounted ({exc}): without it no process can be found and ended") from exc
    if seen != str(os.getpid()):
        raise ConfigurationError(
            f"/proc is another PID namespace's (this process is {os.getpid()} here and {seen} there): "
            "mount this namespace's own, as `unshare --pid --fork --mount-proc` and every container runtime do"
        )


def spawn(command: list[str], env: dict[str, str], *, handled: Collection[int]) -> int:
    """Start a program in a session of its own that the kernel kills when this *thread* ends; return its pid.

    For the launcher only: it forks, which is safe without other threads. Signals in `handled` that come before the
    program runs meet their default action, unless they are ignored here; none is lost. A program that cannot be
    started ends with code 127 and one line on stderr. Raises OSError when the system refuses a process.
    """
    parent = os.getpid()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, handled)
    try:
        pid = os.fork()
        if pid == 0:
            _become(command, env, parent, handled, mask)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _become(
    command: list[str], env: dict[str, str], parent: int, handled: Collection[int], mask: set[signal.Signals | int]
) -> NoReturn:
    """In the forked child: tie our life to the parent's, and exec."""
    try:
        os.setsid()  # a terminal's signals reach the launcher only, which passes them on, once
        if LINUX:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:  # else it ended before we were tied to it
            for number in handled:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and exec would keep that
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.execvpe(command[0], command, env)
    except (OSError, ValueError) as exc:
        os.write(2, f"cannot start {command[0]}: {exc}\n".encode())
    finally:
        os._exit(127)


def _prctl(option: int, value: int) -> None:
    if _library.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def descendants(root: int) -> list[int]:
    """Return the processes below `root`, parents before their children, the dead but unreaped included.

    A snapshot, and those that come and go meanwhile may be missed: repeat until there is nobody left to wait for.
    Empty on systems without /proc.
    """
    if not LINUX:
        return []
    found: list[int] = []
    table = None if os.path.exists("/proc/thread-self/children") else _scan()
    waiting = [root]
    while waiting:
        parent = waiting.pop()
        below = _children(parent) if table is None else table.get(parent, [])
        found += below
        waiting += below
    return found


def _children(pid: int) -> list[int]:
    """Read a process's children where the kernel lists them: costs the same on a machine with 10,000 processes."""
    below: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                below += map(int, file.read().split())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        pass  # it has just ended: its children are ours now, and the next snapshot shows them
    return below


def _scan() -> dict[int, list[int]]:
    """Read every process's parent, for kernels without CONFIG_PROC_CHILDREN."""
    table: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    after_name = file.read().rpartition(b")")[2].split()  # the command's name may contain anything
            except (FileNotFoundError, ProcessLookupError):
                continue
            table.setdefault(int(after_name[1]), []).append(int(name))
    return table


def send(pid: int, number: int) -> bool:
    """Signal one process; return whether it was there and ours to signal."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def send_group(group: int, number: int) -> bool:
    """Signal a process group; return whether it had a member that is ours to signal."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def in_group(pid: int, group: int) -> bool:
    """Whether a process belongs to a process group; not, once it is gone."""
    try:
        return os.getpgid(pid) == group
    except ProcessLookupError:
        return False
