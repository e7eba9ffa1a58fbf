"""Failing, tearing or ending a process at each change it makes to the file system, in turn.

All changes go through :mod:`milepost.storage.posix`; the interposer replaces its operations by
wrappers that number the calls. A test runs a scenario once to count them, then once for each
number with a fault there, and looks at what is left.

In this process::

    with Interposer() as counting:
        scenario()
    for at in range(1, counting.count + 1):
        with Interposer(Fault("eio", at)):
            ...

In a forked child, so that the process can really die, use :func:`run_in_child`. In processes that
the product starts by itself (keeper, fork server, driver scripts) use :func:`environment`: it arms
them through ``sitecustomize``, so that the product needs no hook.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import functools
import inspect
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Literal, get_args

from milepost.storage import posix

FaultKind = Literal["eio", "enospc", "torn", "exit"]
FAULTS: tuple[FaultKind, ...] = get_args(FaultKind)
EXIT_CODE = 77
VARIABLE = "MILEPOST_INTERPOSER"

_WRITES = frozenset({"write_new", "append", "pwrite", "copy_file"})
_BY_DESCRIPTOR = frozenset({"append", "pwrite", "truncate", "fsync"})
_ERRORS = {"eio": errno.EIO, "enospc": errno.ENOSPC}


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and at which operation.

    Attributes:
        kind: ``"eio"`` and ``"enospc"`` raise (``enospc`` after half of a write, and from then on
            for each write, as a full disk does); ``"exit"`` ends the process before the operation;
            ``"torn"`` ends it after half of a write, and before what is no write.
        at: the number of the operation, from 1; 0 for never.
    """

    kind: FaultKind = "exit"
    at: int = 0


@dataclass(frozen=True)
class Step:
    """One recorded operation, or a mark of the scenario.

    Attributes:
        operation: a name in ``posix.OPERATIONS``, or ``"mark"``.
        paths: the absolute paths it worked on (for ``symlink`` the target first); for a mark, its
            text.
        data: bytes written; for copies, those of the new file.
        offset: where ``pwrite`` wrote, or the length that ``truncate`` left.
    """

    operation: str
    paths: tuple[str, ...]
    data: bytes = b""
    offset: int = 0


@dataclass
class Interposer:
    """Numbers operations, records them, and lets one of them fail.

    Args:
        fault: what goes wrong; by default nothing.
        fired: a file that is created when the fault strikes; while it exists no process is struck
            again, so that a replacement of the one that died can work.
        trace_file: where steps are appended as lines of JSON, also from forked children.

    Attributes:
        count: how many operations there were.
        steps: what they were, with the bytes.
    """

    fault: Fault = field(default_factory=Fault)
    fired: str | None = None
    trace_file: str | None = None
    count: int = 0
    steps: list[Step] = field(default_factory=list)
    enabled: bool = True

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = threading.local()
        self._originals: dict[str, Callable[..., Any]] = {}
        self._full = False

    def install(self) -> None:
        """Replace the operations of ``milepost.storage.posix`` in this process."""
        if self._originals:
            raise RuntimeError("this interposer is installed already")
        for name in posix.OPERATIONS:
            original = getattr(posix, name)
            self._originals[name] = original
            setattr(posix, name, self._wrap(name, original))

    def uninstall(self) -> None:
        """Put the operations back."""
        for name, original in self._originals.items():
            setattr(posix, name, original)
        self._originals.clear()

    def __enter__(self) -> Interposer:
        self.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.uninstall()

    def mark(self, *text: str) -> None:
        """Record that the scenario has reached a point, such as "committed", "3"."""
        self._record(Step("mark", text))

    def restart(self) -> None:
        """Count from 1 again; for a process that was forked from an armed one."""
        self.count = 0
        self.steps.clear()
        self.enabled = True

    def _wrap(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(original)

        @functools.wraps(original)
        def operation(*args: Any, **kwargs: Any) -> Any:
            if not self.enabled or getattr(self._inside, "active", False):
                return original(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            with self._lock:
                self.count += 1
                number = self.count
            self._inside.active = True
            try:
                self._strike(name, number, original, bound.arguments)
                described = _describe(name, bound.arguments)
                result = original(*args, **kwargs)
                if result is not False:  # reflink() did nothing then
                    self._record(_complete(described))
                return result
            finally:
                self._inside.active = False

        return operation

    def _strike(
        self, name: str, number: int, original: Callable[..., Any], arguments: dict[str, Any]
    ) -> None:
        kind = self.fault.kind
        if self._full and name in _WRITES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "interposed")
        if number != self.fault.at or not self._may_fire():
            return
        if kind in ("torn", "enospc") and name in _WRITES:
            with contextlib.suppress(FileNotFoundError):  # there is no place to write half of it
                _write_half(name, original, arguments)
        if kind in ("exit", "torn"):
            os._exit(EXIT_CODE)
        self._full = kind == "enospc"
        raise OSError(_ERRORS[kind], f"{os.strerror(_ERRORS[kind])} (operation {number}: {name})")

    def _may_fire(self) -> bool:
        if self.fired is None:
            return True
        try:
            os.close(os.open(self.fired, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True

    def _record(self, step: Step) -> None:
        with self._lock:
            self.steps.append(step)
        if self.trace_file is not None:
            line = asdict(step) | {"data": base64.b64encode(step.data).decode()}
            fd = os.open(self.trace_file, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
            try:
                os.write(fd, json.dumps(line).encode() + b"\n")
            finally:
                os.close(fd)


def read_trace(trace_file: str) -> list[Step]:
    """Return the steps that processes appended to a trace file, in the order they ended."""
    with open(trace_file, encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    return [
        Step(
            record["operation"],
            tuple(record["paths"]),
            base64.b64decode(record["data"]),
            record["offset"],
        )
        for record in records
    ]


def _describe(name: str, arguments: dict[str, Any]) -> Step:
    paths: tuple[str, ...]
    if name in _BY_DESCRIPTOR:
        paths = (os.readlink(f"/proc/self/fd/{arguments['fd']}"),)
    elif name == "symlink":
        paths = (arguments["target"], os.path.abspath(arguments["path"]))
    else:
        named = [arguments[key] for key in ("path", "src", "dst") if key in arguments]
        paths = tuple(os.path.abspath(path) for path in named)
    offset = arguments.get("offset", arguments.get("length", 0))
    return Step(name, paths, bytes(arguments.get("data", b"")), offset)


def _complete(step: Step) -> Step:
    if step.operation not in ("copy_file", "reflink"):
        return step
    with open(step.paths[1], "rb") as file:
        return Step(step.operation, step.paths, file.read())


def _write_half(name: str, original: Callable[..., Any], arguments: dict[str, Any]) -> None:
    if name == "copy_file":
        with open(arguments["src"], "rb") as source, open(arguments["dst"], "xb") as target:
            target.write(source.read(os.fstat(source.fileno()).st_size // 2))
    else:
        data = bytes(arguments["data"])
        original(**{**arguments, "data": data[: len(data) // 2]})


# --- processes ----------------------------------------------------------------------------------


def run_in_child(scenario: Callable[[], object], interposer: Interposer) -> int:
    """Run a scenario in a forked child under an interposer, and wait for its end.

    Returns:
        Its exit code: 0 when the scenario returned, 1 when it raised (the traceback goes to
        standard error), :data:`EXIT_CODE` when the fault ended it.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with interposer:
                scenario()
            code = 0
        except BaseException:  # noqa: BLE001  a forked child must end here, whatever happened
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def environment(
    directory: str,
    role: str,
    fault: Fault | None = None,
    *,
    trace_file: str | None = None,
) -> dict[str, str]:
    """Return the environment under which processes of one role are armed when they start.

    Args:
        directory: an empty directory of the test's; ``sitecustomize`` and the mark that the fault
            has struck go there. One process is struck, its successors are not.
        role: which processes to arm: the module that they run (``"milepost.keeper"``) or the name
            of their script (``"train.py"``); with the prefix ``"fork:"`` their forked children are
            armed instead (``"fork:milepost.engine.forkserver"`` for workers). ``"*"`` arms all.
        fault: what goes wrong; by default nothing, for counting.
        trace_file: where their steps are appended; see :func:`read_trace`.

    Returns:
        A copy of ``os.environ`` with additions.
    """
    site = os.path.join(directory, "site")
    os.makedirs(site, exist_ok=True)
    with open(os.path.join(site, "sitecustomize.py"), "w", encoding="utf-8") as file:
        file.write(f"from {__name__} import arm\n\narm()\n")
    settings = {
        "role": role,
        "fault": asdict(fault or Fault()),
        "fired": os.path.join(directory, "fired"),
        "trace_file": trace_file,
    }
    path = os.pathsep.join(filter(None, [site, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, VARIABLE: json.dumps(settings)}


def arm() -> None:
    """Install the interposer that the environment asks for, if this process has its role."""
    settings = json.loads(os.environ.get(VARIABLE, "null"))
    if settings is None:
        return
    role = settings["role"]
    forked = role.startswith("fork:")
    if role != "*" and not _runs(sys.orig_argv[1:], role.removeprefix("fork:")):
        return
    interposer = Interposer(
        Fault(**settings["fault"]), settings["fired"], settings["trace_file"], enabled=not forked
    )
    interposer.install()
    if forked:
        os.register_at_fork(after_in_child=interposer.restart)


def _runs(arguments: list[str], program: str) -> bool:
    """Tell whether a Python command line runs a module, a script, or code that names it."""
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        if argument == "-m":
            return arguments[position + 1] == program
        if argument == "-c":
            return program in arguments[position + 1]
        if not argument.startswith("-"):
            return os.path.basename(argument) == program
        position += 2 if argument in ("-X", "-W") else 1
    return False
