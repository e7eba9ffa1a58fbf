"""Moments of a run at which processes are killed or stopped: counted events, never times.

Everything that can happen is counted in files, over all processes of a run: each change that a
process of some role makes to the file system, each line in the books of the trainable, each hook
of a callback. The process that makes the wanted event happen does the killing, right there.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

VARIABLE = "MILEPOST_CHAOS"
TOKEN = "MILEPOST_TEST_TOKEN"

Role = Literal["driver", "keeper", "worker", "writer", "forkserver", "self"]
Event = Literal[
    "driver-operation", "keeper-operation", "worker-operation", "append", "line", "hook"
]
EVENTS: tuple[Event, ...] = (
    "driver-operation",
    "keeper-operation",
    "worker-operation",
    "append",
    "line",
    "hook",
)

_LAST: tuple[Role, ...] = ("worker", "writer", "keeper", "driver", "forkserver")
_MODULES: dict[str, Role] = {
    "milepost.keeper": "keeper",
    "milepost.journal.writer": "writer",
    "milepost.engine.forkserver": "forkserver",
}


@dataclass(frozen=True)
class Moment:
    """When to strike whom.

    Attributes:
        event: what is counted; an "append" is one to the journal by the driver.
        at: the number of the event, from 1; it kills before the event takes effect.
        victims: roles of the processes to kill, "self" for the one that makes the event happen;
            empty for all of them, at once.
        torn: whether half of a write takes effect first.
        signal: what the victims get; a test that stops one continues it later.
    """

    event: Event
    at: int
    victims: tuple[Role, ...] = ("driver",)
    torn: bool = False
    signal: int = signal.SIGKILL


def environment(directory: Path, moment: Moment | None) -> dict[str, str]:
    """Return what to add to the environment of a run.

    Args:
        directory: an empty one; counters and the mark that the moment has come go there.
        moment: None only counts.
    """
    site = directory / "site"
    site.mkdir(parents=True)
    (site / "sitecustomize.py").write_text("from chaos import moments\n\nmoments.arm()\n")
    settings = {"directory": str(directory), "moment": moment and asdict(moment)}
    here = Path(__file__).parent.parent
    path = os.pathsep.join(filter(None, [str(site), str(here), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, VARIABLE: json.dumps(settings)}


def counts(directory: Path) -> dict[Event, int]:
    """How many events of each kind there were."""
    found: dict[Event, int] = {}
    for event in EVENTS:
        file = directory / event
        found[event] = file.stat().st_size if file.exists() else 0
    return found


def has_come(directory: Path) -> bool:
    """Whether the moment has come."""
    return (directory / "come").exists()


# --- inside the processes of a run --------------------------------------------------------------


def arm() -> None:
    """Count what this process does, if it belongs to a run and has a role; for sitecustomize."""
    if VARIABLE not in os.environ:
        return
    role = _role(sys.orig_argv)
    if role in ("driver", "keeper"):
        _wrap(f"{role}-operation")
    elif role == "forkserver":  # what it forks are workers
        os.register_at_fork(after_in_child=lambda: _wrap("worker-operation"))


def reached(event: Event, before_kill: Callable[[], object] = lambda: None) -> None:
    """Count an event, and kill if its moment has come."""
    settings = _settings()
    if settings is None:
        return
    moment = settings["moment"]
    number = _count(os.path.join(settings["directory"], event))
    if moment is None or moment["event"] != event or moment["at"] != number:
        return
    mark = os.path.join(settings["directory"], "come")
    os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    if moment["torn"] and _is_struck(moment["victims"]):
        before_kill()
    _strike(moment["victims"], moment["signal"])


@functools.cache
def _settings() -> dict[str, Any] | None:
    return json.loads(os.environ.get(VARIABLE, "null"))


def _count(path: str) -> int:
    """Add one to a counter that several processes share; return its value."""
    fd = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    try:
        os.write(fd, b".")
        return os.lseek(fd, 0, os.SEEK_CUR)  # behind our byte, whoever writes meanwhile
    finally:
        os.close(fd)


def _wrap(event: Any) -> None:
    from milepost.storage import posix

    for name in posix.OPERATIONS:
        setattr(posix, name, _counted(event, name, getattr(posix, name)))


def _counted(event: Any, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def operation(*args: Any, **kwargs: Any) -> Any:
        half = functools.partial(_half, name, original, args, kwargs)
        reached(event, half)
        if event == "driver-operation" and name == "append" and _is_journal(args[0]):
            reached("append", half)
        return original(*args, **kwargs)

    return operation


def _is_journal(fd: int) -> bool:
    return "/.milepost/journal/" in os.readlink(f"/proc/self/fd/{fd}")


def _half(
    name: str, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    if name in ("append", "write_new"):
        data = bytes(args[1])
        original(args[0], data[: len(data) // 2], *args[2:], **kwargs)


def _strike(victims: list[Role], signum: int) -> None:
    ourselves = os.getpid()
    if not victims:
        # Nobody may act on the death of another: all stand still first, then all die.
        stopped: set[int] = set()
        while fresh := {pid for pid, _ in census() if pid != ourselves} - stopped:
            for pid in fresh:
                _send(pid, signal.SIGSTOP)
            stopped |= fresh
    # The fork server dies with the driver, and workers with it: also one that strikes here.
    for pid, role in sorted(census(), key=lambda process: _LAST.index(process[1])):
        if pid != ourselves and (not victims or role in victims):
            _send(pid, signum)
    if _is_struck(victims):
        os.kill(ourselves, signum)


def _is_struck(victims: list[Role]) -> bool:
    """Whether this process is among the victims."""
    return not victims or "self" in victims or _own_role() in victims


def _send(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return  # it has ended by itself


def census(token: str | None = None) -> Iterator[tuple[int, Role]]:
    """The processes of this run that live, with their roles.

    Args:
        token: of the run; default ours.
    """
    mine = f"{TOKEN}={token or os.environ[TOKEN]}".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            environ = Path("/proc", entry, "environ").read_bytes().split(b"\0")
            command = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
            parent = int(Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        role = _role([os.fsdecode(word) for word in command]) if mine in environ else None
        if role == "forkserver" and _is_forkserver(parent):
            role = "worker"
        if role is not None:
            yield int(entry), role


def _own_role() -> Role | None:
    return next((role for pid, role in census() if pid == os.getpid()), None)


def _is_forkserver(pid: int) -> bool:
    try:
        return b"milepost.engine.forkserver" in Path("/proc", str(pid), "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _role(command: list[str]) -> Role | None:
    for word in command[1:]:
        for module, role in _MODULES.items():
            if word == module or (module in word and "import" in word):  # the program of -c
                return role
    here = os.path.dirname(os.path.abspath(__file__))
    return "driver" if any(os.path.dirname(word) == here for word in command[1:3]) else None
