"""Every exception that Milepost raises, as one tree.

::

    MilepostError
    ├── TuneError                      what ``fit()`` raises for a failure of the experiment itself
    │   └── ExperimentExistsError      the experiment's name is taken (also a FileExistsError)
    ├── StorageError                   storage is missing, read-only or full (also an OSError)
    │   └── ExperimentNotFoundError    no experiment is there (also a FileNotFoundError)
    ├── CheckpointError                a checkpoint cannot be used
    │   ├── CorruptCheckpointError     its bytes differ from its manifest
    │   └── CheckpointFailedError      it was captured but could not be committed
    ├── CaptureError                   a directory could not be captured by ``report``
    ├── CodecError                     a value cannot be stored, or read back (also a ValueError)
    ├── JournalError                   the experiment's log cannot be used
    │   ├── JournalCorruptError        a record in the middle of the log is damaged
    │   └── LeaseLostError             another driver owns the experiment (held, or taken over)
    ├── WorkerStartError               a worker process could not be started
    ├── ChannelClosedError             the other end of a channel is gone (also a ConnectionError)
    └── RayError                       errors of workers, under the names scripts know
        ├── RayTaskError               user code raised; also an instance of the user's own type
        └── RayActorError              the worker process died
            ├── ActorDiedError
            └── TrialTimeoutError  it was silent for too long (also a TimeoutError)

Each class says when it is raised; each is also the built-in that fits, so that ``except OSError``
and ``except ValueError`` in scripts keep working.
"""

from __future__ import annotations

import contextlib
from typing import Any

# Exceptions of users may override how their attributes are read and set; these are Python's own.
_ARGS = BaseException.__dict__["args"]
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class that Python code defines


class MilepostError(Exception):
    """Base of all errors that Milepost raises on its own account."""


class TuneError(MilepostError):
    """An experiment cannot start or go on. Mirrors ``ray.tune.TuneError``."""


class ExperimentExistsError(TuneError, FileExistsError):
    """The experiment directory already belongs to another experiment; nothing was changed."""


class StorageError(MilepostError, OSError):
    """Storage cannot be used as asked: it is missing, read-only, full, or not ours."""


class ExperimentNotFoundError(StorageError, FileNotFoundError):
    """There is no experiment at a path that can be gone on with; the message says what is."""


class CheckpointError(MilepostError):
    """A checkpoint cannot be used."""


class CorruptCheckpointError(CheckpointError):
    """The files of a checkpoint differ from what its manifest lists."""


class CheckpointFailedError(CheckpointError):
    """A captured checkpoint could not be committed; earlier checkpoints are intact."""


class CaptureError(MilepostError):
    """A directory passed to ``report`` could not be captured; nothing was published."""


class CodecError(MilepostError, ValueError):
    """A user's value cannot be stored as JSON, or a stored one cannot be read back."""


class JournalError(MilepostError):
    """The experiment's journal cannot be read or written."""


class JournalCorruptError(JournalError):
    """A record that is not the torn end of the journal fails its check."""


class LeaseLostError(JournalError):
    """Another driver holds this experiment; this one must not write to it."""


class WorkerStartError(MilepostError):
    """A worker process could not be started."""


class ChannelClosedError(MilepostError, ConnectionError):
    """The process at the other end of a channel is gone."""


class RayError(MilepostError):
    """Base of errors that happen in workers. Mirrors ``ray.exceptions.RayError``."""


class RayTaskError(RayError):
    """User code in a worker raised. Mirrors ``ray.exceptions.RayTaskError``.

    What users receive is made by :func:`task_error`: an instance of this class *and* of the
    type that user code raised, so that ``except MyError`` works across processes.

    Attributes:
        cause: the exception as it was raised in the worker.
        traceback_str: the worker's traceback as text.
    """

    def __init__(self, cause: BaseException, traceback_str: str = "") -> None:
        self.cause = cause
        self.traceback_str = traceback_str
        _ARGS.__set__(self, (text_of(cause),))

    def __str__(self) -> str:
        return self.traceback_str.rstrip() or summary(self.cause)

    def __reduce__(self) -> tuple[Any, ...]:
        return task_error, (self.cause, self.traceback_str)


def task_error(cause: BaseException, traceback_str: str = "") -> RayTaskError:
    """Wrap an exception of user code so that it is caught under both its own type and ours.

    Args:
        cause: what user code raised.
        traceback_str: the worker's formatted traceback.

    Returns:
        A :class:`RayTaskError` that is also an instance of ``type(cause)`` where the type allows
        a common subclass that works; otherwise a plain :class:`RayTaskError`.
    """
    kind = type(cause)
    if issubclass(kind, RayTaskError) or not issubclass(kind, Exception):
        return RayTaskError(cause, traceback_str)
    try:
        return _under_both(cause, traceback_str)
    except Exception:  # noqa: BLE001 - layouts may conflict, and users' classes may do anything
        return RayTaskError(cause, traceback_str)


def _under_both(cause: BaseException, traceback_str: str) -> RayTaskError:
    kind = type(cause)
    both = type(
        f"RayTaskError({kind.__name__})",
        (RayTaskError, kind),
        {"__module__": RayTaskError.__module__, "__init__": RayTaskError.__init__},
    )
    error: RayTaskError = rebuilt(both, *parts_of(cause))
    RayTaskError.__init__(error, cause, traceback_str)
    # The type may have changed what attributes mean; then it is of no use under this name.
    if error.cause is not cause or error.traceback_str != traceback_str:
        raise AttributeError(f"{kind.__name__} has attributes of its own with our names")
    return error


def text_of(error: BaseException) -> str:
    """Return ``str(error)``, or what is wrong with it; never raises."""
    try:
        text = str(error)
    except Exception as problem:  # noqa: BLE001 - a __str__ of users may raise anything
        return f"(its text cannot be shown: str() raised {type(problem).__name__})"
    return text.encode(errors="backslashreplace").decode()  # no file can hold lone surrogates


def parts_of(error: BaseException) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what :func:`rebuilt` needs, without calling what users wrote."""
    _, args, *state = _native(type(error)).__reduce__(error)
    return args, (state[0] or {}) if state else {}


def rebuilt(kind: type, args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    """Make an exception without calling what users wrote: their ``__init__`` may need more.

    Args:
        kind: its type.
        args: what Python's own constructor takes.
        state: its attributes.
    """
    native = _native(kind)
    error = native.__new__(kind, *args)
    with contextlib.suppress(TypeError):  # users may have put other things into ``args``
        native.__init__(error, *args)
    own = object.__getattribute__(error, "__dict__")
    for name, value in state.items():
        if hasattr(native, name):
            object.__setattr__(error, name, value)
        else:
            own[name] = value
    return error


def _native(kind: type) -> Any:
    """The ancestor of Python's own whose memory layout the type has."""
    while kind.__flags__ & _HEAP_TYPE:
        assert kind.__base__ is not None
        kind = kind.__base__
    return kind


class RayActorError(RayError):
    """A worker process died. Mirrors ``ray.exceptions.RayActorError``.

    Attributes:
        message: how it died.
        traceback_str: where it was then, as far as it could still tell; else the last lines that
            it wrote to standard error, or nothing.
    """

    def __init__(self, message: str = "", traceback_str: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.traceback_str = traceback_str

    def __str__(self) -> str:
        return "\n\n".join(filter(None, (self.message, self.traceback_str)))


class ActorDiedError(RayActorError):
    """A worker process died; the text says by which signal or exit code."""


class TrialTimeoutError(RayActorError, TimeoutError):
    """A trial was silent for longer than ``FailureConfig.trial_timeout_s``; it was killed."""


def summary(error: BaseException) -> str:
    """Return an error's type and text, as the end of a traceback does; the type if it has none."""
    return labelled(type(error).__name__, text_of(error))


def labelled(kind: str, text: str) -> str:
    """Return ``kind: text``, or ``kind`` alone where there is no text."""
    return f"{kind}: {text}" if text else kind
