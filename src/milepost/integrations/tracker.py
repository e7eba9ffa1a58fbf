"""What the callbacks for all experiment trackers have in common."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from milepost.api.callback import LoggerCallback
from milepost.api.nested import flatten_dict
from milepost.integrations.outbox import Outbox

if TYPE_CHECKING:
    from milepost.checkpoint.handle import Checkpoint
    from milepost.control.facade import Trial

log = logging.getLogger("milepost.integrations")

#: How a trial ended, or that the run ended before it.
Ending = Literal["finished", "failed", "interrupted"]

# Each holds a lock and an open file until it was uploaded.
_MOST_UPLOADS: Final = 64


@dataclass(frozen=True, slots=True)
class Tracked:
    """A trial at one moment, for calls that are made later.

    Attributes:
        trial_id: unique within the experiment.
        name: the trial's name.
        experiment_path: the experiment's directory.
        path: the trial's directory.
        config: its configuration.
        evaluated: the searched variables, flat.
        at: when that was, in seconds since the epoch.
    """

    trial_id: str
    name: str
    experiment_path: str
    path: str
    config: dict[str, Any]
    evaluated: dict[str, Any]
    at: float

    @classmethod
    def of(cls, trial: Trial) -> Tracked:
        """Look at a trial."""
        return cls(
            trial_id=trial.trial_id,
            name=str(trial),
            experiment_path=trial.local_experiment_path,
            path=trial.path,
            config={key: value for key, value in trial.config.items() if key != "callbacks"},
            evaluated=dict(trial.evaluated_params),
            at=time.time(),
        )

    @property
    def experiment(self) -> str:
        """The experiment's name."""
        return os.path.basename(self.experiment_path)


def require(module: str, package: str, owner: str) -> None:
    """Make sure that a library is there, without importing it.

    Args:
        module: its import name.
        package: what to install.
        owner: who needs it.

    Raises:
        ImportError: it is not installed; the message has the command.
    """
    try:
        found = find_spec(module) is not None
    except ValueError:  # somebody put a module without a spec in its place
        found = True
    if not found:
        raise ImportError(f"{owner} needs {module}: run `pip install {package}`.", name=module)


class TrackerCallback(LoggerCallback):
    """Tells an experiment tracker about each trial, one tracker run per trial.

    The hooks only take note; a thread talks to the tracker (:class:`.outbox.Outbox`), so a slow
    tracker holds up no trial, and one that fails ends no experiment. The methods that subclasses
    of this package implement are called in that thread. A trial that is tried again, or goes on
    after a restore, goes on in its tracker run.

    Attributes:
        tracker: the tracker's name.
    """

    tracker: ClassVar[str]
    #: Attributes that are not recorded with the experiment.
    secrets: ClassVar[tuple[str, ...]] = ()

    _outbox: Outbox | None = None
    #: How long to wait for the tracker at the end of a run, in seconds.
    _patience_s: float = 600.0

    def __init__(self) -> None:
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._running: dict[str, Tracked] = {}  # trials that have begun and not ended
        self._runs: dict[str, Any] = {}  # the tracker's objects, used in the thread only
        self._ids: dict[str, str] = {}  # the tracker's ids, by trial
        self._ids_lock = threading.Lock()
        self._uploads = threading.Semaphore(_MOST_UPLOADS)

    def __getstate__(self) -> dict[str, Any]:
        """What was configured; neither connections nor secrets."""
        hidden = {"_outbox", "_running", "_runs", "_ids", "_ids_lock", "_uploads", *self.secrets}
        return {key: value for key, value in vars(self).items() if key not in hidden}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({**dict.fromkeys(self.secrets), **state})
        self._begin_anew()

    # --- for subclasses, in the thread ------------------------------------------------------

    def _begin(self, trial: Tracked, run_id: str | None) -> tuple[str, Any]:
        """Begin a tracker run, or go on with one; return its id and what stands for it."""
        raise NotImplementedError

    def _go_on(self, trial: Tracked, run: Any) -> None:
        """The trial has started again, perhaps with another config."""

    def _log(self, trial: Tracked, run: Any, result: dict[str, Any], at: float) -> None:
        """Log a result; nested keys are joined by slashes."""
        raise NotImplementedError

    def _upload(self, trial: Tracked, run: Any, path: str) -> None:
        """Upload a checkpoint from its directory."""

    def _end(self, trial: Tracked, run: Any, ending: Ending) -> None:
        """End the tracker run."""
        raise NotImplementedError

    @property
    def _wants_checkpoints(self) -> bool:
        return False

    # --- hooks ------------------------------------------------------------------------------

    def setup(
        self,
        stop: Any | None = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **info: Any,
    ) -> None:
        """Get ready to talk to the tracker."""
        self._outbox = Outbox(self.tracker)

    def log_trial_start(self, trial: Trial) -> None:
        """Begin the trial's run, or go on with it."""
        note = Tracked.of(trial)
        self._running[note.trial_id] = note

        def start() -> None:
            if note.trial_id in self._runs:
                self._go_on(note, self._runs[note.trial_id])
            else:
                self._run_of(note)

        self._send(f"begin the run of {note.name}", start)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Log a result."""
        note = self._running.get(trial.trial_id)
        if note is None:
            note = self._running[trial.trial_id] = Tracked.of(trial)
        # A copy, because others may change the result.
        row = {str(key): value for key, value in flatten_dict(result).items()}
        at = time.time()
        self._send(
            "log results", lambda: self._log(note, self._run_of(note), row, at), droppable=True
        )

    def on_checkpoint(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        checkpoint: Checkpoint,
        **info: Any,
    ) -> None:
        """Upload the checkpoint, if that was asked for; it is not deleted before."""
        if not self._wants_checkpoints:
            return
        note = self._running.get(trial.trial_id) or Tracked.of(trial)
        held = contextlib.ExitStack()
        path = held.enter_context(checkpoint.as_directory())
        uploads = self._uploads
        if not uploads.acquire(blocking=False):
            held.close()
            log.warning(
                "%s is slower than the trials: %d checkpoints wait to be uploaded, so %s will not "
                "be there. It is safe in the experiment.",
                self.tracker,
                _MOST_UPLOADS,
                path,
            )
            return

        def release() -> None:
            held.close()
            uploads.release()

        self._send(
            "upload checkpoints",
            lambda: self._upload(note, self._run_of(note), path),
            release=release,
        )

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """End the trial's run."""
        note = self._running.pop(trial.trial_id, None)
        if note is None:
            with self._ids_lock:
                is_known = trial.trial_id in self._ids
            if not failed and not is_known:
                return  # it never ran
            note = Tracked.of(trial)
        self._finish(note, "failed" if failed else "finished")

    def on_experiment_end(self, trials: Sequence[Trial], **info: Any) -> None:
        """End what has not ended, and wait for the tracker."""
        outbox = self._outbox
        if outbox is None:
            return
        status = {t.trial_id: t.status for t in trials if t.trial_id in self._running}
        endings: dict[str | None, Ending] = {"TERMINATED": "finished", "ERROR": "failed"}
        for trial_id, note in self._running.items():
            self._finish(note, endings.get(status.get(trial_id), "interrupted"))
        outbox.close(self._patience_s)
        self._outbox = None
        self._begin_anew()

    def get_state(self) -> dict[str, Any] | None:
        """Return which tracker run is whose, so that a restored trial goes on in its own."""
        with self._ids_lock:
            return {"runs": dict(self._ids)} if self._ids else None

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`get_state` returned."""
        with self._ids_lock:
            self._ids = dict(state["runs"])

    # --- in common --------------------------------------------------------------------------

    def _send(self, what: str, act: Callable[[], None], **options: Any) -> None:
        if self._outbox is None:
            raise RuntimeError(
                f"{type(self).__name__}.setup() was not called: a subclass that overrides it has "
                "to call super().setup(**info)."
            )
        self._outbox.send(what, act, **options)

    def _run_of(self, note: Tracked) -> Any:
        """The tracker's object for a trial, made when it is first needed."""
        if note.trial_id not in self._runs:
            with self._ids_lock:
                known = self._ids.get(note.trial_id)
            run_id, run = self._begin(note, known)
            with self._ids_lock:
                self._ids[note.trial_id] = run_id
            self._runs[note.trial_id] = run
        return self._runs[note.trial_id]

    def _finish(self, note: Tracked, ending: Ending) -> None:
        def end() -> None:
            self._end(note, self._run_of(note), ending)
            self._runs.pop(note.trial_id, None)

        self._send("end runs", end)


def number(value: Any) -> float | int | None:
    """Return what is a number to a tracker: numbers, booleans, arrays of one; else None."""
    if isinstance(value, bool | int | float):
        return value
    if getattr(value, "size", None) == 1 and hasattr(value, "item"):
        item = value.item()
        return item if isinstance(item, bool | int | float) else None
    return None


def is_under(key: str, names: Sequence[str]) -> bool:
    """Whether a flat key is one of the names, or lies below one."""
    return any(key == name or key.startswith(f"{name}/") for name in names)
