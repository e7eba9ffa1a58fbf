"""What callbacks, schedulers and results see of a trial: :class:`Trial`."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from milepost.api.fields import EXPR_ERROR_FILE, EXPR_ERROR_PICKLE_FILE
from milepost.api.resources import PlacementGroupFactory, placement_group_of
from milepost.api.spelling import did_you_mean
from milepost.checkpoint.handle import Checkpoint

if TYPE_CHECKING:
    from milepost.control.outcome import TrialFacts


class Requests(Protocol):
    """What a live trial's facade asks the run to do."""

    def set_config(self, trial_id: str, config: dict[str, Any]) -> None:
        """Give the trial another config for its next start."""
        ...

    def set_tag(self, trial_id: str, tag: str) -> None:
        """Give the trial another experiment tag."""
        ...

    def set_resources(self, trial_id: str, resources: PlacementGroupFactory) -> None:
        """Let the trial ask for something else at its next start."""
        ...

    def set_status(self, trial_id: str, status: str) -> None:
        """Pause, stop or continue the trial."""
        ...


# Attributes of Ray's class that have no meaning here, and what to use.
_INSTEAD = {
    "runner": "workers are reached through tune.report() only",
    "temporary_state": "the run's state belongs to the controller",
    "run_metadata": "use last_result, metric_analysis, checkpoint and num_failures",
    "init_logdir": "trial.path exists when the trial starts",
    "restore_path": "a trial starts from trial.checkpoint",
    "on_checkpoint": "checkpoints are registered when they are committed",
    "update_last_result": "change the result in on_trial_result",
    "invalidate_json_state": "the journal is always up to date",
    "get_json_state": "use ExperimentAnalysis or the journal",
    "write_error_log": "raise in the trainable",
    "handle_error": "raise in the trainable",
    "should_stop": "use RunConfig(stop=...)",
    "get_trainable_cls": "the trainable is known to workers only",
}


_PARTS = frozenset({"_facts", "_requests", "_load"})

_find: ContextVar[Callable[[str], Trial | None] | None] = ContextVar("_find", default=None)


@contextlib.contextmanager
def by_reference(find: Callable[[str], Trial | None]) -> Iterator[None]:
    """Pickle trials as references in this block, and load such references.

    Schedulers keep trials in their state; what belongs to the run itself is not part of it.

    Args:
        find: trial id -> the run's trial, or None.
    """
    token = _find.set(find)
    try:
        yield
    finally:
        _find.reset(token)


def _found(trial_id: str) -> Trial:
    find = _find.get()
    trial = None if find is None else find(trial_id)
    if trial is None:
        raise pickle.UnpicklingError(
            f"trial {trial_id} was pickled while it ran, so it exists in its own run only"
        )
    return trial


class Trial:
    """One trial. Mirrors ``ray.tune.experiment.Trial`` as callbacks and schedulers use it.

    Reading shows the trial as it is now. Assigning ``config`` and calling the setters asks the
    run to act; nothing else can be written. Attributes that a scheduler adds (``trial.rank = 1``)
    stay on the object.

    Args:
        facts: the trial itself.
        requests: takes what is asked for a live trial; None when it has ended.
    """

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    TERMINATED = "TERMINATED"
    ERROR = "ERROR"

    def __init__(self, facts: TrialFacts, requests: Requests | None = None) -> None:
        self._facts = facts
        self._requests = requests
        self._load: Callable[[], TrialFacts] | None = None

    def _began(self, facts: TrialFacts, requests: Requests) -> None:
        """The trial is live: look at it, and hand on what is asked for it."""
        self._facts, self._requests, self._load = facts, requests, None

    def _ended(self, load: Callable[[], TrialFacts]) -> None:
        """The trial has ended: look at its record from now on, loaded when it is needed."""
        self._load, self._requests = load, None
        del self._facts

    def __getattr__(self, name: str) -> Any:
        if name == "_facts":
            load = self.__dict__.get("_load")
            if load is None:
                raise AttributeError(name)
            self._facts = load()
            return self._facts
        if name in _INSTEAD:
            raise AttributeError(f"Trial.{name} is not supported: {_INSTEAD[name]}.")
        public = [known for known in dir(type(self)) if not known.startswith("_")]
        raise AttributeError(f"Trial has no attribute {name!r}." + did_you_mean(name, public))

    # --- what it is -------------------------------------------------------------------------

    @property
    def trial_id(self) -> str:
        """Unique within the experiment."""
        return self._facts.trial_id

    @property
    def config(self) -> dict[str, Any]:
        """Its configuration; assigning one takes effect at the next start."""
        return self._facts.config

    @config.setter
    def config(self, config: dict[str, Any]) -> None:
        self.set_config(config)

    @property
    def evaluated_params(self) -> dict[str, Any]:
        """The searched variables, flat."""
        return self._facts.evaluated

    @property
    def experiment_tag(self) -> str:
        """``<counter>_<variables>``."""
        return self._facts.tag

    @experiment_tag.setter
    def experiment_tag(self, tag: str) -> None:
        self._asked("experiment_tag").set_tag(self.trial_id, tag)

    @property
    def trainable_name(self) -> str:
        """Name of the function or class."""
        return str(getattr(self._facts, "trainable_name", ""))

    @property
    def custom_trial_name(self) -> str:
        """Its name, whoever gave it."""
        return self._facts.name

    @property
    def placement_group_factory(self) -> PlacementGroupFactory:
        """What it asks for."""
        return placement_group_of(getattr(self._facts, "resources", None))

    # --- how it is doing --------------------------------------------------------------------

    @property
    def status(self) -> str:
        """PENDING, RUNNING, PAUSED, TERMINATED or ERROR."""
        return self._facts.status

    @status.setter
    def status(self, status: str) -> None:
        self.set_status(status)

    @property
    def last_result(self) -> dict[str, Any]:
        """Its last row, nested; the trial's id alone before the first."""
        return self._facts.last_row

    @property
    def last_update_time(self) -> float:
        """When it last reported, in seconds since the epoch; 0 before."""
        return float(getattr(self._facts, "last_time", 0.0))

    @property
    def start_time(self) -> float | None:
        """When it first ran, in seconds since the epoch, or None."""
        time: float | None = getattr(self._facts, "start_time", None)
        return time

    @property
    def metric_analysis(self) -> dict[str, dict[str, float]]:
        """Flat metric -> max, min, avg, last, last-5-avg and last-10-avg."""
        return self._facts.analysis

    @property
    def num_failures(self) -> int:
        """How many attempts failed."""
        return self._facts.failures

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The newest committed checkpoint."""
        latest = self._facts.latest
        return None if latest is None else Checkpoint.from_directory(latest[1])

    def has_checkpoint(self) -> bool:
        """Whether it has a committed checkpoint."""
        return self._facts.latest is not None

    def is_finished(self) -> bool:
        """Whether it has ended."""
        return self.status in (Trial.TERMINATED, Trial.ERROR)

    def get_error(self) -> Exception | str | None:
        """Its last failure, or None."""
        return self._facts.error

    def get_pickled_error(self) -> Exception | None:
        """Its last failure as an exception, or None."""
        error = self._facts.error
        return error if isinstance(error, Exception) else None

    def should_recover(self) -> bool:
        """Whether a failed attempt of it would be tried again."""
        return bool(getattr(self._facts, "recoverable", False))

    # --- where it is ------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """Its directory, absolute."""
        return self._facts.directory

    @property
    def local_path(self) -> str:
        """Same as :attr:`path`: there is no second copy."""
        return self._facts.directory

    @property
    def local_experiment_path(self) -> str:
        """The experiment's directory."""
        return self._facts.experiment_path

    @property
    def remote_path(self) -> str:
        """Same as :attr:`path`."""
        return self._facts.directory

    @property
    def relative_logdir(self) -> str:
        """Its directory, relative to the experiment's."""
        return os.path.relpath(self._facts.directory, self._facts.experiment_path)

    @property
    def storage(self) -> Any:
        """Where the run keeps its files, as ``get_context().get_storage()`` shows it."""
        from milepost.worker.storage_context import StorageContext

        latest = self._facts.latest
        return StorageContext(
            experiment_path=self.local_experiment_path,
            trial_path=self.path,
            current_checkpoint_index=-1 if latest is None else latest[0],
        )

    @property
    def logdir(self) -> NoReturn:
        """Raises ``DeprecationWarning``."""
        raise DeprecationWarning("Trial.logdir does not exist any more; use Trial.path.")

    @property
    def error_file(self) -> str | None:
        """The file with the texts of its failures, or None."""
        return self._file(EXPR_ERROR_FILE)

    @property
    def pickled_error_file(self) -> str | None:
        """The file with its last failure, or None."""
        return self._file(EXPR_ERROR_PICKLE_FILE)

    def _file(self, name: str) -> str | None:
        return os.path.join(self.path, name) if self._facts.failures else None

    # --- asking for something ---------------------------------------------------------------

    def set_config(self, config: dict[str, Any]) -> None:
        """Give it another config for its next start.

        Raises:
            RuntimeError: it has ended.
        """
        self._asked("set_config()").set_config(self.trial_id, config)

    def set_experiment_tag(self, tag: str) -> None:
        """Give it another tag.

        Raises:
            RuntimeError: it has ended.
        """
        self.experiment_tag = tag

    def update_resources(self, resources: Any) -> None:
        """Let it ask for something else at its next start.

        Args:
            resources: a dict or a ``PlacementGroupFactory``.

        Raises:
            ValueError: it is running.
            RuntimeError: it has ended.
        """
        if self.status == Trial.RUNNING:
            raise ValueError(
                f"Trial {self} is running, so its resources cannot be changed. Pause it first."
            )
        self._asked("update_resources()").set_resources(
            self.trial_id, placement_group_of(resources)
        )

    def set_status(self, status: str) -> None:
        """Ask for another status: PAUSED pauses, TERMINATED stops, PENDING continues a paused one.

        Raises:
            ValueError: a trial cannot be put into that status.
            RuntimeError: it has ended.
        """
        if status != self.status:
            self._asked("set_status()").set_status(self.trial_id, status)

    def _asked(self, what: str) -> Requests:
        if self._requests is None:
            raise RuntimeError(f"Trial {self} has ended ({self.status}); {what} has no effect.")
        return self._requests

    def __reduce__(self) -> tuple[Any, ...]:
        """A live trial is pickled as a reference, see :func:`by_reference`; an ended one whole."""
        own = {name: value for name, value in vars(self).items() if name not in _PARTS}
        if self._requests is not None or _find.get() is not None:
            return _found, (self.trial_id,), own
        return Trial, (self._facts,), own

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Trial):
            return NotImplemented
        return self.trial_id == other.trial_id and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.trial_id)

    def __str__(self) -> str:
        return self._facts.name

    def __repr__(self) -> str:
        return self._facts.name
