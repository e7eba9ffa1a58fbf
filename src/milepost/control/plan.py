"""What a run is made of: everything the controller needs, checked and resolved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from milepost.api.callback import Callback
from milepost.api.checkpoint_config import CheckpointConfig
from milepost.api.failure_config import FailureConfig
from milepost.api.resources import PlacementGroupFactory
from milepost.api.resume_config import ResumeConfig
from milepost.api.scheduler import TrialScheduler
from milepost.api.search_algorithm import SearchAlgorithm
from milepost.api.session import ClusterResources
from milepost.api.stopper import Stopper

if TYPE_CHECKING:
    from milepost.control.facade import Trial
    from milepost.control.group import Group
    from milepost.control.view import RunView
    from milepost.journal.experiment import Experiment


class Progress(Protocol):
    """Shows a run while it goes on."""

    def update(self, view: RunView) -> None:
        """Look at the run, if it is time to; called several times a second.

        Args:
            view: computes what it is asked for, and only then.
        """
        ...

    def line(self, text: str, stream: Literal["stdout", "stderr"]) -> None:
        """Show one line of a worker's output, without its line end."""
        ...

    def close(self) -> None:
        """Show the end of the run; called once, however it ends."""
        ...


class Watch(Protocol):
    """Is told of the single workers of a run's only trial; what it raises ends the run."""

    def begins(self) -> None:
        """Workers are started, for the first time or again."""
        ...

    def reported(self, rows: tuple[bytes, ...], checkpoint: int | None) -> None:
        """All workers have made a report.

        Args:
            rows: pickled, by rank.
            checkpoint: number of the one that they made together, if they did.
        """
        ...

    def committed(self, index: int, path: str) -> None:
        """A checkpoint is durable, and kept."""
        ...

    def failed(self, rank: int, error: Exception | str) -> None:
        """A worker has failed, and with it the attempt."""
        ...

    def returned(self, rank: int, value: bytes) -> None:
        """A worker's function has returned something, which is pickled."""
        ...


@dataclass(frozen=True)
class ValidationPlan:
    """How checkpoints are validated that were reported to be.

    Attributes:
        function: ``fn(checkpoint, **arguments) -> dict`` of metrics.
        resources: what it holds while it runs; trials leave that free.
    """

    function: Callable[..., dict[str, Any]]
    resources: Mapping[str, float]


@dataclass(kw_only=True)
class RunPlan:
    """One run of an experiment.

    Attributes:
        experiment: where results go; it exists already.
        trainable: the function or class.
        trainable_name: its name, part of trials' names.
        kind: whether it is a function or a ``Trainable`` class.
        search: proposes trials; it has its metric, mode and space already.
        scheduler: pauses and stops trials; it has its metric and mode already.
        stopper: ends trials or the run; None for none.
        criteria: flat metric -> threshold; a trial ends when a metric reaches one.
        callbacks: hooks of users, in the order in which they are called.
        projections: which result files are written, of ``{"json", "csv", "tensorboard"}``.
        checkpoint: what is saved and kept; ``checkpoint_at_end`` is resolved (None means False).
        failure: what happens when a trial fails.
        metric: the metric that is optimised, if any; every result must have it.
        mode: ``"min"`` or ``"max"``.
        num_samples: as the user gave it; -1 without limit.
        max_concurrent: how many trials run at once; None as many as fit.
        time_budget_s: seconds after which the run ends.
        reuse_actors: whether a worker process may run one trial after another.
        resources: config -> what a trial with it needs.
        group: each bundle of what a trial needs is for a process of its own, which are the trial's
            workers. None: a trial is one process, whatever it may start itself.
        cluster: what all trials together may use.
        name_of: trial -> its name.
        dirname_of: trial -> its directory's name, below the experiment.
        log_to_file: files for stdout and stderr in the trial's directory.
        verbose: 0, 1 or 2.
        progress: what shows the run; None shows nothing.
        chdir: whether workers change into the trial's directory.
        initial_checkpoint: directory of the checkpoint that a trial without one of its own starts
            from, absolute; None for none.
        setup: goes into the journal as the run's description; JSON values only.
        seed: base of the workers' random seeds; None draws one.
        resume: what becomes of the trials that the experiment has already; None when the
            experiment is new. Otherwise ``experiment`` is the existing one, and ``search``,
            ``scheduler``, ``stopper`` and ``callbacks`` are new objects that get back their
            recorded states.
        anew: those of ``"search"``, ``"scheduler"``, ``"stopper"`` and ``"callbacks"`` that the
            user has replaced: they start without the recorded state.
        other_space: new trials come from another search space than those that exist.
        lifted: what may have stopped the earlier run and does not hold any more, ``"budget"`` and
            ``"stopper"``: trials that were cut short with the run are unfinished then.
        watch: is told of single workers, where all of the run is one trial.
        validation: how checkpoints are validated; None if they are not.
        supply: ``(trial id, place in the config such as "a/b", repr, error) -> value``: gives a
            stored value of a trial's config that cannot be loaded; None where that is an error.
    """

    experiment: Experiment
    trainable: Any
    trainable_name: str
    kind: Literal["function", "class"]
    search: SearchAlgorithm
    scheduler: TrialScheduler
    resources: Callable[[dict[str, Any]], PlacementGroupFactory]
    cluster: ClusterResources
    name_of: Callable[[Trial], str]
    dirname_of: Callable[[Trial], str]
    stopper: Stopper | None = None
    criteria: Mapping[str, Any] | None = None
    callbacks: list[Callback] = field(default_factory=list)
    projections: frozenset[str] = frozenset({"json", "csv", "tensorboard"})
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    failure: FailureConfig = field(default_factory=FailureConfig)
    metric: str | None = None
    mode: str | None = None
    num_samples: int = 1
    group: Group | None = None
    max_concurrent: int | None = None
    time_budget_s: float | None = None
    reuse_actors: bool = False
    log_to_file: tuple[str | None, str | None] = (None, None)
    verbose: int = 1
    progress: Progress | None = None
    chdir: bool = True
    initial_checkpoint: str | None = None
    setup: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    resume: ResumeConfig | None = None
    anew: frozenset[str] = frozenset()
    other_space: bool = False
    lifted: frozenset[str] = frozenset()
    watch: Watch | None = None
    validation: ValidationPlan | None = None
    supply: Callable[[str, str, str, Exception], Any] | None = None
