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
    ├── RayTrainError                  training with several workers cannot start or go on
    │   ├── TrainingFailedError        what ``fit()`` of a trainer raises (also a RuntimeError)
    │   │   ├── WorkerGroupError       workers failed
    │   │   │   └── NCCLHangError      they waited for each other without end
    │   │   ├── ControllerError        what is around the workers failed
    │   │   └── PreemptionError        their machines went away too often
    │   ├── WorkerHealthCheckTimeoutError   a worker was silent (also a TimeoutError)
    │   ├── WorkerHealthCheckFailedError    a worker could not say how it is
    │   ├── WorkerGroupStartupTimeoutError  workers were not there in time (also a TimeoutError)
    │   ├── WorkerGroupStartupFailedError   a worker died while the group started
    │   ├── InsufficientClusterResourcesError  there will never be enough for the workers
    │   └── CollectiveError            workers did not make the same calls
    │       └── CollectiveTimeoutError one was waited for too long (also a TimeoutError)
    ├── SessionMisuseError             a training worker's call elsewhere (also a RuntimeError)
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
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milepost.api.training.preemption import PreemptionInfo

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


class RayTrainError(MilepostError):
    """Base of the errors of training with several workers. Mirrors Ray's internal class."""


class TrainingFailedError(RayTrainError, RuntimeError):
    """Base of what ``fit()`` of a trainer raises. Mirrors ``ray.train.TrainingFailedError``.

    The run's directory keeps every checkpoint that was committed; a run of the same name goes on
    from the latest one.
    """


class WorkerGroupError(TrainingFailedError):
    """Workers failed, more often than is allowed. Mirrors ``ray.train.WorkerGroupError``.

    Args:
        error_message: which workers failed, and how.
        worker_failures: their exceptions, by world rank.

    Attributes:
        worker_failures: as above.
    """

    def __init__(self, error_message: str, worker_failures: Mapping[int, Exception]) -> None:
        super().__init__(f"Training failed, because workers did:\n{error_message}")
        self._error_message = error_message
        self.worker_failures = dict(worker_failures)

    def __reduce__(self) -> tuple[Any, ...]:
        failures = {rank: _Carried(error) for rank, error in self.worker_failures.items()}
        return _again(self, (self._error_message, failures), "_error_message", "worker_failures")


class NCCLHangError(WorkerGroupError):
    """Workers hang in a collective operation. Mirrors ``ray.train.NCCLHangError``."""


class ControllerError(TrainingFailedError):
    """What is around the workers failed: their start, a callback, storage. Mirrors Ray's class.

    Args:
        controller_failure: what happened; this error takes its traceback over.

    Attributes:
        controller_failure: as above.
    """

    def __init__(self, controller_failure: Exception) -> None:
        super().__init__(f"Training failed outside its workers:\n{summary(controller_failure)}")
        self.controller_failure = controller_failure
        self.with_traceback(controller_failure.__traceback__)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again(self, (_Carried(self.controller_failure),), "controller_failure")


class PreemptionError(TrainingFailedError):
    """Machines under a run went away, more often than is allowed. Mirrors Ray's class.

    Args:
        preemption_info: a ``milepost.train.PreemptionInfo``: which machines, and until when.
        drain_timed_out: whether workers still ran when the time was over.

    Attributes:
        preemption_info: as above.
        drain_timed_out: as above.
    """

    def __init__(self, preemption_info: PreemptionInfo, drain_timed_out: bool = False) -> None:
        ranks = ", ".join(map(str, preemption_info.preempted_ranks)) or "none"
        ended = "were still running when the time was over" if drain_timed_out else "have ended"
        super().__init__(
            f"Training was interrupted: machines under it went away (ranks: {ranks}). Its workers "
            f"{ended}."
        )
        self.preemption_info = preemption_info
        self.drain_timed_out = drain_timed_out

    def __reduce__(self) -> tuple[Any, ...]:
        given = (self.preemption_info, self.drain_timed_out)
        return _again(self, given, "preemption_info", "drain_timed_out")


class WorkerHealthCheckTimeoutError(RayTrainError, TimeoutError):
    """A worker did not say in time how it is."""


class WorkerHealthCheckFailedError(RayTrainError):
    """A worker could not say how it is.

    Args:
        message: which worker, and what was asked.
        failure: what came instead of an answer.

    Attributes:
        health_check_failure: ``failure``.
    """

    def __init__(self, message: str, failure: Exception) -> None:
        super().__init__(f"{message}\n{summary(failure)}")
        self._message = message
        self.health_check_failure = failure

    def __reduce__(self) -> tuple[Any, ...]:
        given = (self._message, _Carried(self.health_check_failure))
        return _again(self, given, "_message", "health_check_failure")


class WorkerGroupStartupTimeoutError(RayTrainError, TimeoutError):
    """Workers were not there in time.

    Args:
        num_workers: how many were asked for.

    Attributes:
        num_workers: as above.
    """

    def __init__(self, num_workers: int) -> None:
        super().__init__(
            f"A group of {num_workers} workers did not start in time. Either what it needs is in "
            "use, or there is not as much: ask for fewer workers or smaller ones with "
            "ScalingConfig, or wait longer with RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S."
        )
        self.num_workers = num_workers

    def __reduce__(self) -> tuple[Any, ...]:
        return _again(self, (self.num_workers,), "num_workers")


class WorkerGroupStartupFailedError(RayTrainError):
    """A worker died while its group started."""


class InsufficientClusterResourcesError(RayTrainError):
    """Workers ask for more than there will ever be."""


class CollectiveError(RayTrainError):
    """Workers did not make the same calls, so that some would wait for others for ever.

    Args:
        message: who waits, where, and for whom.
        missing_ranks: world ranks of those that the others waited for.

    Attributes:
        missing_ranks: as above, in a list.
    """

    def __init__(self, message: str, missing_ranks: Collection[int] = ()) -> None:
        super().__init__(message)
        self.missing_ranks = list(missing_ranks)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again(self, (str(self), self.missing_ranks), "missing_ranks")


class CollectiveTimeoutError(CollectiveError, TimeoutError):
    """A worker did not make the call that others wait in. Mirrors Ray's class.

    ``RAY_TRAIN_COLLECTIVE_TIMEOUT_S`` is the limit, in seconds.
    """


class SessionMisuseError(MilepostError, RuntimeError):
    """A function of training workers was called elsewhere."""


class _Carried:
    """An exception on its way through a pickle, which may be of a class that users wrote.

    What comes out at the other end is the exception: its constructor, which may take other
    arguments than those in ``args``, is not called.
    """

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        kind = type(self._error)
        plain = kind.__reduce__ is _native(kind).__reduce__
        if plain and kind.__reduce_ex__ is object.__reduce_ex__:
            return rebuilt, (kind, *parts_of(self._error))
        return _itself, (self._error,)


def _itself(error: BaseException) -> BaseException:
    return error


def _again(error: BaseException, given: tuple[Any, ...], *kept: str) -> tuple[Any, ...]:
    """What pickle needs to call an exception's constructor again, and to add what was set later."""
    state = {name: value for name, value in vars(error).items() if name not in kept}
    return (type(error), given, state) if state else (type(error), given)


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
