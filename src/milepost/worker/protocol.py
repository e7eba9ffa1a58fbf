"""Messages between the controller and a worker, sent over a :class:`milepost.engine.channel`.

They are pickled: both ends are our own processes, on the same run. Values of users inside them
(configs, rows, exceptions) travel as separate bytes, pickled by :func:`dump`, so that one value
that cannot be unpickled on the other side never takes the message with it.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
from typing import Any, Literal, NamedTuple

from milepost.errors import RayTaskError, parts_of, rebuilt

Action = Literal["continue", "stop", "pause"]


class Counters(NamedTuple):
    """Where a trial's counters go on: taken from the row of the checkpoint it starts from.

    Times are in seconds.
    """

    training_iteration: int = 0
    time_total_s: float = 0.0
    timesteps_total: int | None = None
    episodes_total: int | None = None


class StorageRef(NamedTuple):
    """Where a worker finds its experiment and how it captures.

    Attributes:
        experiment_path: absolute directory of the experiment.
        experiment_name: its name.
        experiment_uuid: its id; ``device`` and ``inode`` identify the directory itself.
        keeper_address: path of the keeper's socket.
        node_root: directory of this node's staging and sockets.
    """

    experiment_path: str
    experiment_name: str
    experiment_uuid: str
    device: int
    inode: int
    keeper_address: str
    node_root: str


# --- controller to worker -------------------------------------------------------------------


class RunTrial(NamedTuple):
    """Run one trial from its start or from a checkpoint.

    Attributes:
        kind: which runner: a function or a ``Trainable`` class (the worker has the payload).
        config: pickled config (:func:`dump`).
        trial_dir: the trial's directory, absolute; also its working directory.
        attempt: how often this trial was started before.
        first_index: number for the first checkpoint of this attempt.
        start_from: path of the checkpoint to start from, or None.
        parent: id of that checkpoint, for the lineage.
        counters: where iteration and time go on.
        resources: the trial's placement group factory, pickled, for ``get_trial_resources``.
        chdir: whether the worker changes into ``trial_dir``.
        reset: True when this worker ran another trial before (``reuse_actors``).
        reusable: True when it may run another one afterwards: a class's ``cleanup`` then waits
            until the worker's end.
        watched: True when it must not be silent for long: it says when it is :class:`Busy`, and
            tells where it is when asked (:mod:`milepost.worker.stacks`).
        grouped: True for a training worker: SIGTERM does not end it, see :class:`Preempting`.
        judged: False when nobody has a say in the run's results: a function's report need not wait
            for its answer, until the worker is told to :class:`Attend` or of a :class:`Preempt`.
    """

    kind: Literal["function", "class"]
    trial_id: str
    trial_name: str
    trial_dir: str
    config: bytes
    attempt: int
    attempt_id: str
    first_index: int
    storage: StorageRef
    start_from: str | None = None
    parent: str | None = None
    counters: Counters = Counters()
    resources: bytes = b""
    chdir: bool = True
    reset: bool = False
    reusable: bool = False
    rank: int = 0
    world_size: int = 1
    watched: bool = False
    judged: bool = True
    grouped: bool = False


class Reply(NamedTuple):
    """The decision on a report that waits for it; the report is on record now.

    Attributes:
        action: go on, stop or pause.
        save: class trainables save a checkpoint before acting on it; functions ignore it.
    """

    action: Action
    save: bool = False


class Preempt(NamedTuple):
    """The run is about to end: the trial should save at its next report, where it will stop.

    It comes while user code runs, and again when the deadline changes.

    Attributes:
        reason: what ends the run, such as ``"SIGTERM"``.
        deadline_ms: when the worker is killed, in milliseconds since the epoch; None without one.
        ranks: of the workers that lose their machine; None when all of them are to end.
    """

    reason: str
    deadline_ms: int | None = None
    ranks: tuple[int, ...] | None = None


class Attend(NamedTuple):
    """Wait for the answer to each report from now on: the trial is to stop at one of them."""


class Met(NamedTuple):
    """All workers of the trial have sent :class:`Meet`, or that cannot be any more.

    Attributes:
        data: what rank 0 brought.
        notes: what all brought, by rank.
        error: why it cannot be, pickled by :func:`dump_error`; else empty.
    """

    data: bytes
    notes: tuple[bytes, ...]
    error: bytes = b""


class Lent(NamedTuple):
    """What a trainer in the trial may use; answers :class:`Borrow`.

    Attributes:
        number: of the question.
        size: how many workers it may have; 0 for none.
        gpus: ids of the GPUs that they hold.
        why: why it may have none.
    """

    number: int
    size: int
    gpus: tuple[str, ...] = ()
    why: str = ""


class Validate(NamedTuple):
    """Validate a committed checkpoint; answered by :class:`Started`, then :class:`Validated`.

    Or by :class:`Failed`. The worker runs no trial before or after that.

    Attributes:
        experiment_path: absolute directory of the experiment, which has the values.
        function: digest of the pickled function among its objects.
        arguments: what the function is given besides the checkpoint, codec JSON.
        checkpoint: the checkpoint's directory, absolute.
    """

    experiment_path: str
    function: str
    arguments: bytes
    checkpoint: str


class Shutdown(NamedTuple):
    """End the worker after cleanup; it exits with status 0."""


# --- worker to controller -------------------------------------------------------------------


class Started(NamedTuple):
    """User code is about to run (function) or ``setup`` has returned (class)."""

    pid: int
    hostname: str
    node_ip: str


class Reported(NamedTuple):
    """One result row.

    Attributes:
        row: the whole row with auto-filled fields, pickled by :func:`dump`, except ``config``,
            which the controller has.
        checkpoint: index of the checkpoint captured for it, or None.
        nbytes: captured bytes.
        waited_s: seconds that the report waited for room in staging.
        asks: user code asks :meth:`TuneContext.should_checkpoint`, and so acts on it.
        awaited: user code waits for the decision.
    """

    row: bytes
    checkpoint: int | None = None
    nbytes: int = 0
    waited_s: float = 0.0
    asks: bool = False
    awaited: bool = True


class Saved(NamedTuple):
    """A class trainable's checkpoint was captured; its row is the last reported one.

    ``index`` is None when nothing was captured.
    """

    index: int | None  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    nbytes: int = 0


class Preempting(NamedTuple):
    """The worker was told by a signal, such as ``"SIGTERM"``, that its machine goes away."""

    reason: str


class Borrow(NamedTuple):
    """A trainer in the trial wants workers; answered by :class:`Lent` when there is room.

    Attributes:
        number: tells the trainers in a trial apart.
        bundles: what they hold, one for each.
        least: so many of them will do.
    """

    number: int
    bundles: tuple[dict[str, float], ...]
    least: int


class GiveBack(NamedTuple):
    """The trainer with this number has ended."""

    number: int


class Busy(NamedTuple):
    """A watched worker waits for us, or no longer: for a capture or a commit, which take time."""

    busy: bool


class Meet(NamedTuple):
    """A worker of several waits until all of them do the same; answered by :class:`Met`.

    Attributes:
        what: what it does, as users call it.
        data: all get that of rank 0.
        note: all get those of all ranks.
        captures: it will capture a checkpoint when they have met, and say so in its report.
    """

    what: str
    data: bytes = b""
    note: bytes = b""
    captures: bool = False


class Finished(NamedTuple):
    """User code has returned, or acted on a stop or pause; the worker is idle now.

    A return value that counts as a result was sent as :class:`Reported` before.

    Attributes:
        reason: "returned" when the function ended by itself, else the action it obeyed.
        value: pickled, what a function has to hand on to whoever started the run; else empty.
    """

    reason: Literal["returned", "stop", "pause"]
    value: bytes = b""


class Validated(NamedTuple):
    """The validation function has returned metrics, as codec JSON."""

    metrics: bytes


class Failed(NamedTuple):
    """User code raised, or its result or checkpoint could not be sent.

    Attributes:
        error: the exception, pickled by :func:`dump_error`; empty when that was impossible.
        kind: its type's name; ``message`` its text; ``traceback`` the formatted traceback,
            wrapper frames cut.
        abort: the trial must not be retried (for example ``reset_config`` is not implemented).
    """

    error: bytes
    kind: str
    message: str
    traceback: str
    abort: bool = False


#: So many more of the reports that do not wait are on record. One message for many of them: answers
#: to a worker that sends faster than it reads would fill its channel. A bare number, since reports
#: with a checkpoint read it while user code waits.
Recorded = int

ToWorker = RunTrial | Reply | Recorded | Preempt | Attend | Met | Lent | Validate | Shutdown
FromWorker = (
    Started
    | Reported
    | Saved
    | Preempting
    | Borrow
    | GiveBack
    | Busy
    | Meet
    | Finished
    | Validated
    | Failed
)


class WorkerOutput(NamedTuple):
    """A piece of a worker's output, as read from its pipe."""

    stream: Literal["stdout", "stderr"]
    data: bytes

    def __repr__(self) -> str:
        return f"WorkerOutput({self.stream}, {len(self.data)} bytes)"


# The user's script; multiprocessing calls it __mp_main__ in processes that it has spawned.
_SPAWNED_SCRIPT = "__mp_main__"
_SCRIPTS = frozenset({"__main__", _SPAWNED_SCRIPT})


class _ByValueNeeded(Exception):
    """A value refers to code that the other process cannot import."""


class _ByReferencePickler(pickle.Pickler):
    """Refuses what lives in ``__main__``: no worker ever imports the user's script."""

    def reducer_override(self, obj: Any) -> Any:
        owner = obj if isinstance(obj, type) or callable(obj) else type(obj)
        if getattr(owner, "__module__", None) in _SCRIPTS:
            raise _ByValueNeeded
        return NotImplemented


def take_script_by_value() -> None:
    """Have cloudpickle take a spawned process's script by value, as it does with ``__main__``."""
    if _SPAWNED_SCRIPT in sys.modules:
        import cloudpickle

        cloudpickle.register_pickle_by_value(sys.modules[_SPAWNED_SCRIPT])


def dump(value: Any) -> bytes:
    """Pickle a user's value; what is defined in ``__main__`` or locally travels by value.

    Raises:
        Exception: whatever the value's own pickling raises.
    """
    out = io.BytesIO()
    try:
        _ByReferencePickler(out, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    except (_ByValueNeeded, pickle.PicklingError, AttributeError, TypeError):
        import cloudpickle

        data: bytes = cloudpickle.dumps(value)
        return data
    return out.getvalue()


def dump_error(error: BaseException) -> bytes:
    """Pickle an exception so that :func:`load` gives one of the same type.

    Many exceptions can be pickled and not be unpickled, because their constructor takes other
    arguments than their ``args``, or hold what no other process can have. Those are made again
    from their ``args`` and attributes, of which the ones that cannot travel become their repr.

    Raises:
        Exception: whatever the exception's type does when it is pickled or unpickled.
    """
    with contextlib.suppress(Exception):
        data = dump(error)
        if isinstance(load(data), BaseException):
            return data
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            if issubclass(type(obj), RayTaskError) or not issubclass(type(obj), BaseException):
                return super().reducer_override(obj)
            args, state = parts_of(obj)
            portable = {name: _portable(value) for name, value in state.items()}
            return rebuilt, (type(obj), tuple(map(_portable, args)), portable)

    out = io.BytesIO()
    Pickler(out).dump(error)
    load(out.getvalue())
    return out.getvalue()


def _portable(value: Any) -> Any:
    if issubclass(type(value), BaseException):
        return value  # is made again itself
    try:
        load(dump(value))
    except Exception:  # noqa: BLE001 - pickling runs code of users
        try:
            return repr(value)
        except Exception as error:  # noqa: BLE001 - so does this
            return f"<{type(value).__name__} whose repr() raised {type(error).__name__}>"
    return value


def load(data: bytes) -> Any:
    """Undo :func:`dump`."""
    return pickle.loads(data)
