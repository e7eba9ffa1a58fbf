"""Every exception that Milepost raises, as one tree.

::

    MilepostError
    ├── TuneError                      what ``fit()`` raises for a failure of the experiment itself
    │   └── ExperimentExistsError      the experiment's name is taken (also a FileExistsError)
    ├── StorageError                   storage is missing, read-only or full (also an OSError)
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
            └── ActorDiedError

Each class says when it is raised; each is also the built-in that fits, so that ``except OSError``
and ``except ValueError`` in scripts keep working.
"""

from __future__ import annotations

from typing import Any


class MilepostError(Exception):
    """Base of all errors that Milepost raises on its own account."""


class TuneError(MilepostError):
    """An experiment cannot start or go on. Mirrors ``ray.tune.TuneError``."""


class ExperimentExistsError(TuneError, FileExistsError):
    """The experiment directory already belongs to another experiment; nothing was changed."""


class StorageError(MilepostError, OSError):
    """Storage cannot be used as asked: it is missing, read-only, full, or not ours."""


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
        self.args = (str(cause),)

    def __str__(self) -> str:
        head = f"{type(self.cause).__name__}: {self.cause}"
        return f"{self.traceback_str.rstrip()}" if self.traceback_str else head

    def __reduce__(self) -> tuple[Any, ...]:
        return task_error, (self.cause, self.traceback_str)


def task_error(cause: BaseException, traceback_str: str = "") -> RayTaskError:
    """Wrap an exception of user code so that it is caught under both its own type and ours.

    Args:
        cause: what user code raised.
        traceback_str: the worker's formatted traceback.

    Returns:
        A :class:`RayTaskError` that is also an instance of ``type(cause)`` where Python allows a
        common subclass; otherwise a plain :class:`RayTaskError`.
    """
    kind = type(cause)
    if issubclass(kind, RayTaskError) or not issubclass(kind, Exception):
        return RayTaskError(cause, traceback_str)
    try:
        both = type(
            f"RayTaskError({kind.__name__})",
            (RayTaskError, kind),
            {"__module__": RayTaskError.__module__, "__init__": RayTaskError.__init__},
        )
        error: RayTaskError = both(cause, traceback_str)
    except TypeError:  # a layout conflict, or a metaclass that forbids subclasses
        return RayTaskError(cause, traceback_str)
    for name, value in getattr(cause, "__dict__", {}).items():
        error.__dict__.setdefault(name, value)
    return error


class RayActorError(RayError):
    """A worker process died. Mirrors ``ray.exceptions.RayActorError``."""


class ActorDiedError(RayActorError):
    """A worker process died; the text says by which signal or exit code."""
