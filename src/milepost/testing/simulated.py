"""Runs in virtual time: recorded learning curves under the real controller, without processes.

A search or a scheduler can be tried on thousands of trials in seconds. Everything but training is
real: the controller, its journal, the scheduler, the searcher, stoppers and callbacks.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

from milepost.api.checks import function, integer
from milepost.api.fields import TRAINING_ITERATION
from milepost.engine.protocol import EngineEvent, Exited, Payload, WorkerSpec
from milepost.testing.simulated_checkpoints import SimulatedKeeper, SimulatedVerifier
from milepost.worker.protocol import (
    Counters,
    Finished,
    FromWorker,
    Reply,
    Reported,
    RunTrial,
    Saved,
    Shutdown,
    Started,
    ToWorker,
    dump,
    load,
)
from milepost.worker.row import RowBuilder

if TYPE_CHECKING:
    from milepost.tune.result_grid import ResultGrid
    from milepost.tune.tuner import Tuner

#: A config's learning curve: for each iteration how many seconds it takes, its metrics and, if
#: checkpoints are to be made, the state that they hold. Called with the config, and with the state
#: as well when a trial starts from a checkpoint.
Curve = Callable[..., Iterable[tuple[Any, ...]]]


class SimulatedEngine:
    """An engine whose workers replay curves; time passes only when nothing is left to do.

    Functions have a checkpoint with each result for which the curve tells a state, classes when
    they are asked to save. They are committed at once, and stay in memory. A trial whose curve
    tells no states goes on where it was when it had been paused, as if it had checkpoints. Events
    come in the order of virtual time, and those of the same moment in that of their causes, so
    that a run is the same each time. A result's ``timestamp`` is in virtual seconds, too.

    Args:
        curve: config -> its learning curve.

    Attributes:
        now: virtual seconds since the start.
        reports: how many results were reported.
        cpu_s: CPU time that the simulation itself has used.
        keeper, verifier: commit and choose checkpoints.
    """

    def __init__(self, curve: Curve) -> None:
        self.now = 0.0
        self.reports = 0
        self.cpu_s = 0.0
        self._curve = curve
        self._courses: dict[str, _Course] = {}
        self._moments: list[tuple[float, int, _Worker]] = []
        self._order = itertools.count()
        self._workers: dict[str, _Worker] = {}
        self._exits: list[EngineEvent] = []
        self._unread = 0
        self.keeper = SimulatedKeeper(self.wait)
        self.verifier = SimulatedVerifier(self.keeper, self.wait)
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_set = False
        self._is_closed = False

    # --- what the controller calls ------------------------------------------------------------

    def prepare(self, cpus: float = 1.0) -> None:
        """Nothing is needed ahead of time."""

    def load(self, payload: Payload) -> None:
        """The trainable is never called."""

    def start(self, spec: WorkerSpec) -> _Worker:
        """Start a simulated worker."""
        worker = self._workers[spec.worker_id] = _Worker(self, spec.worker_id)
        return worker

    def fileno(self) -> int:
        """Readable while anything is going to happen."""
        return self._fd

    def events(self) -> list[EngineEvent]:
        """Workers that have ended; lets the next thing happen once all messages were read."""
        began = time.thread_time()
        exits, self._exits = self._exits, []
        if not exits and not self._unread and self._moments:
            moment, _, worker = heapq.heappop(self._moments)
            self.now = max(self.now, moment)
            worker.act()
        self._signal()
        self.cpu_s += time.thread_time() - began
        return exits

    def close(self) -> None:
        """Release everything; safe to call twice."""
        if not self._is_closed:
            self._is_closed = True
            for worker in self._workers.values():
                worker.close()
            self.keeper.close()
            self.verifier.close()
            os.close(self._fd)

    # --- what workers call --------------------------------------------------------------------

    def course(self, message: RunTrial) -> _Course:
        """The course of a trial, from where it was."""
        course = self._courses.get(message.trial_id)
        if message.start_from in self.keeper.states:
            state = self.keeper.states[message.start_from]
            steps = _steps(self._curve, load(message.config), state)
            course = _Course(steps, RowBuilder(message.trial_id, message.counters))
        elif course is None:
            steps = _steps(self._curve, load(message.config))
            course = _Course(steps, RowBuilder(message.trial_id, Counters()))
        self._courses[message.trial_id] = course
        return course

    def forget(self, trial_id: str) -> None:
        """A trial has ended."""
        self._courses.pop(trial_id, None)

    def wait(self, more: int) -> None:
        """Let time stand still until that much more was read; negative: it was."""
        self._unread += more

    def wake(self, worker: _Worker, after_s: float) -> None:
        """Let a worker act once some virtual time has passed."""
        heapq.heappush(self._moments, (self.now + after_s, next(self._order), worker))
        self._signal()

    def exited(self, worker_id: str, code: int | None, signal: int | None) -> None:
        """A worker has ended."""
        if self._workers.pop(worker_id, None) is not None:
            self._exits.append(Exited(worker_id, code, signal))
            self._signal()

    def _signal(self) -> None:
        wanted = bool(self._moments or self._exits)
        if wanted and not self._is_set:
            os.eventfd_write(self._fd, 1)
        elif self._is_set and not wanted:
            os.eventfd_read(self._fd)
        self._is_set = wanted


def _steps(curve: Curve, *arguments: Any) -> Iterator[tuple[Any, ...]]:
    """The iterations of a curve, each looked at before it is taken.

    Raises:
        TypeError: the curve returned no iterable, or has something else in it.
    """
    told = curve(*arguments)
    if not isinstance(told, Iterable):
        raise TypeError(_no_curve(curve, f"returned {told!r} ({type(told).__name__})"))
    return _checked(curve, told)


def _checked(curve: Curve, steps: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    for step in steps:
        if (
            not isinstance(step, tuple | list)
            or len(step) not in (2, 3)
            or not isinstance(step[0], Real)
            or not float(step[0]) >= 0
            or not isinstance(step[1], Mapping)
        ):
            raise TypeError(_no_curve(curve, f"has {step!r} as an iteration"))
        yield tuple(step)


def _no_curve(curve: Curve, problem: str) -> str:
    name = getattr(curve, "__qualname__", repr(curve))
    return (
        f"The curve {name} {problem}. It must yield (seconds, metrics) for each iteration, or "
        "(seconds, metrics, state): a number that is not negative, a dict, and what a checkpoint "
        "holds."
    )


@dataclass(slots=True)
class _Course:
    """Where a trial is on its curve."""

    steps: Iterator[tuple[Any, ...]]
    rows: RowBuilder


class _Worker:
    """A simulated worker, and the controller's channel to it."""

    def __init__(self, engine: SimulatedEngine, worker_id: str) -> None:
        self.worker_id = worker_id
        self.pid = None
        self.ended = False
        self._engine = engine
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._said: deque[FromWorker] = deque()
        self._trial: RunTrial | None = None
        self._course: _Course | None = None
        self._next: tuple[Any, ...] | None = None
        self._index = 0  # of the next checkpoint
        self._iteration = 0
        self._state: Sequence[Any] = ()  # after the last iteration, if the curve tells it
        self._captured: list[tuple[int, int, Any]] = []

    # --- handle -------------------------------------------------------------------------------

    @property
    def channel(self) -> Any:
        """Itself."""
        return self

    def kill(self) -> None:
        """End at once."""
        self.ended = True
        self._engine.exited(self.worker_id, None, 9)

    def signal(self, signum: int) -> None:
        """Ignored."""

    # --- channel ------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Readable when there are messages."""
        return self._fd

    def send(self, message: ToWorker) -> None:
        """Take a message of the controller."""
        began = time.thread_time()
        if isinstance(message, RunTrial):
            self._trial, self._course = message, self._engine.course(message)
            self._index, self._state = message.first_index, ()
            self._say(Started(os.getpid(), "localhost", "127.0.0.1"))
            self._plan()
        elif isinstance(message, Reply):
            self._obey(message)
        elif isinstance(message, Shutdown):
            self.ended = True
            self._engine.exited(self.worker_id, 0, None)
        self._engine.cpu_s += time.thread_time() - began

    def receive_available(self) -> list[FromWorker]:
        """All messages that are here."""
        messages = list(self._said)
        if messages:
            self._said.clear()
            os.eventfd_read(self._fd)
            self._engine.wait(-1)
        # The commits are heard of after what is returned here, as from a real keeper.
        for captured in self._captured:
            self._commit(*captured)
        self._captured.clear()
        return messages

    def close(self) -> None:
        """Release it; safe to call twice."""
        if self._fd >= 0:
            if self._said:
                self._engine.wait(-1)
                self._said.clear()
            os.close(self._fd)
            self._fd = -1

    # --- what it does -------------------------------------------------------------------------

    def _say(self, message: FromWorker) -> None:
        if not self._said:
            os.eventfd_write(self._fd, 1)
            self._engine.wait(1)
        self._said.append(message)

    def _plan(self) -> None:
        """Begin the next iteration."""
        assert self._course is not None
        self._next = next(self._course.steps, None)
        self._engine.wake(self, 0.0 if self._next is None else self._next[0])

    def act(self) -> None:
        """An iteration is over, or the curve: say so."""
        if self.ended or self._fd < 0:
            return
        assert self._course is not None
        assert self._trial is not None
        if self._next is None:
            self._end("returned")
            return
        took_s, metrics, *self._state = self._next
        row = self._course.rows.next(metrics, took_s, overwrite_timestamp=True)
        row["timestamp"] = self._engine.now
        self._iteration = row[TRAINING_ITERATION]
        self._engine.reports += 1
        index = self._capture() if self._trial.kind == "function" else None
        self._say(Reported(dump(row), index))

    def _capture(self) -> int | None:
        if not self._state:
            return None
        index = self._index
        self._captured.append((index, self._iteration, self._state[0]))
        self._index += 1
        return index

    def _commit(self, index: int, iteration: int, state: Any) -> None:
        trial = self._trial
        assert trial is not None
        self._engine.keeper.commit(
            trial.trial_id, trial.trial_dir, trial.attempt, index, iteration, state
        )

    def _obey(self, reply: Reply) -> None:
        assert self._trial is not None
        if reply.save and self._trial.kind == "class":
            self._say(Saved(self._capture()))
        if reply.action == "continue":
            self._plan()
        else:
            self._end(reply.action)

    def _end(self, reason: Any) -> None:
        assert self._trial is not None
        if reason != "pause":
            self._engine.forget(self._trial.trial_id)
        self._say(Finished(reason))


@dataclass(frozen=True)
class Simulation:
    """A simulated run.

    Attributes:
        results: as ``fit()`` would have returned them.
        seconds: virtual time that the run took.
        reports: number of results.
        cpu_s: CPU time of this process, without that of the simulation itself.
    """

    results: ResultGrid
    seconds: float
    reports: int
    cpu_s: float


def simulate(tuner: Tuner, curve: Curve, *, slots: int = 8) -> Simulation:
    """Do what ``tuner.fit()`` does, but replay curves instead of training.

    The tuner's trainable is never called, and no result files are written: results are in the
    journal, and in what is returned.

    Args:
        tuner: a new one.
        curve: config -> for each iteration its seconds and its metrics; with a third item, the
            state that a checkpoint holds. Who starts from one is replayed by ``curve(config,
            state)``.
        slots: how many CPUs trials share.

    Returns:
        The results, and what it took.

    Raises:
        TypeError: the curve is no function, or ``slots`` no whole number.
        ValueError: there is not a single slot.
        TuneError: the curve tells something else than iterations.

    Example:
        >>> def curve(config):
        ...     for epoch in range(27):
        ...         yield 60.0, {"loss": config["x"] + 1 / (epoch + 1)}

        With checkpoints, as population based training needs them:

        >>> def learning(config, learned=0.0):
        ...     for epoch in range(27):
        ...         learned += config["lr"] * (1 - learned)
        ...         yield 60.0, {"accuracy": learned}, learned
    """
    from milepost.api.session import ClusterResources
    from milepost.control.controller import run
    from milepost.control.interruption import Interruption
    from milepost.tune.analysis import ExperimentAnalysis
    from milepost.tune.place import create_experiment
    from milepost.tune.plan import plan_for
    from milepost.tune.result_grid import ResultGrid
    from milepost.tune.setup import describe

    function("simulate", "curve", curve)
    slots = integer(at_least=1)("simulate", "slots", slots)
    experiment = tuner._experiment
    create = functools.partial(
        create_experiment,
        experiment.storage_path,
        experiment.name,
        trainable=experiment.target.name,
        automatic=not experiment.is_named,
    )
    plan = replace(
        plan_for(experiment, create, describe(experiment), save_at_end=False),
        cluster=ClusterResources(slots, ()),
        projections=frozenset(),
        progress=None,
    )
    engine = SimulatedEngine(curve)
    began = time.thread_time()
    with Interruption() as interruption:
        outcome = run(
            plan,
            engine=engine,
            keeper=engine.keeper,
            verifier=engine.verifier,
            interruption=interruption,
        )
    used_s = time.thread_time() - began
    analysis = ExperimentAnalysis(
        outcome.experiment_path,
        trials=outcome.trials,
        default_metric=experiment.tune_config.metric,
        default_mode=experiment.tune_config.mode,
    )
    return Simulation(
        ResultGrid(analysis), engine.now, engine.reports, max(0.0, used_s - engine.cpu_s)
    )
