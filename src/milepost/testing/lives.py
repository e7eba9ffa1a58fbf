"""Runs of one trainable: to the end, or killed at a moment and resumed."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

from milepost import tune
from milepost.checkpoint import verify
from milepost.engine.payload import pack
from milepost.tune.resolve import resolve
from milepost.worker.protocol import dump, load

Victim = Literal["worker", "driver"]

_ITERATION = "training_iteration"


class Row(NamedTuple):
    """One result: its iteration and the whole row."""

    iteration: int
    metrics: dict[str, Any]


@dataclass
class Life:
    """What became of one run of one trial.

    Attributes:
        rows: all results in the order in which they came, also those that came twice.
        checkpoints: (iteration, directory) of all that are committed.
        error: why it failed, as text, or None.
    """

    rows: list[Row] = field(default_factory=list)
    checkpoints: list[tuple[int, str]] = field(default_factory=list)
    error: str | None = None

    @cached_property
    def iterations(self) -> set[int]:
        """Those that were reported."""
        return {row.iteration for row in self.rows}

    @property
    def was_stopped(self) -> bool:
        """Whether it was told to stop at its last result, and did not return by itself."""
        return bool(self.rows[-1].metrics.get("done"))

    @property
    def resumed(self) -> Row | None:
        """Its first result after it was resumed, or None."""
        pids = [row.metrics.get("pid") for row in self.rows]
        return next((row for row in self.rows if row.metrics.get("pid") != pids[0]), None)

    def latest(self, up_to: int) -> int | None:
        """The last iteration up to one that has a checkpoint."""
        return max((number for number, _ in self.checkpoints if number <= up_to), default=None)

    def row(self, iteration: int) -> dict[str, Any] | None:
        """The metrics that were reported last for an iteration."""
        found = (row.metrics for row in reversed(self.rows) if row.iteration == iteration)
        return next(found, None)

    def checkpoint(self, iteration: int) -> str | None:
        """The newest checkpoint of an iteration."""
        found = (path for number, path in reversed(self.checkpoints) if number == iteration)
        return next(found, None)


class Recorder(tune.Callback):
    """Writes down every result, and kills once.

    Args:
        path: the file to which results are appended.
        kill_after: the iteration at whose first result somebody dies, before it is answered.
        victim: who: the trial's worker, or this whole process.
    """

    def __init__(self, path: str, kill_after: int | None, victim: Victim) -> None:
        self._path = path
        self._kill_after = kill_after
        self._victim = victim

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Append the row; the kill comes before anything follows from it."""
        row = {name: value for name, value in result.items() if name != "config"}
        with open(self._path, "ab") as file:
            pickle.dump(dump(row), file)
        if result[_ITERATION] == self._kill_after:
            self._kill_after = None
            os.kill(result["pid"] if self._victim == "worker" else os.getpid(), signal.SIGKILL)


class Lives:
    """Makes runs of one trainable.

    Args:
        directory: where they are; an empty one.
        trainable: what ``Tuner`` takes.
        config: its hyper-parameters.
        iterations: after how many it is stopped.
        checkpoint_frequency: how often a class saves.

    Attributes:
        name: the trainable's, for messages.
        kind: whether it is a function or a class.
    """

    def __init__(
        self,
        directory: str,
        trainable: Any,
        config: dict[str, Any],
        iterations: int,
        checkpoint_frequency: int,
    ) -> None:
        target = resolve(trainable)
        self.name = target.name
        self.kind = target.kind
        self._directory = directory
        self._trainable = target.trainable
        self._config = config
        self._iterations = iterations
        self._frequency = checkpoint_frequency if target.kind == "class" else 0
        self._numbers = itertools.count()

    def uncut(self) -> Life:
        """Run to the end."""
        return self._lived(self._next(), None, "worker")

    def cut(self, iteration: int, by: Literal["retry", "restore"]) -> Life:
        """Run, be killed after an iteration, go on to the end.

        Args:
            iteration: after which one.
            by: who is killed, and so what goes on: "retry" the worker, "restore" the driver.
        """
        name = self._next()
        if by == "retry":
            return self._lived(name, iteration, "worker")
        self._die(name, iteration)
        tuner = tune.Tuner.restore(
            os.path.join(self._directory, name),
            self._trainable,
            param_space=self._config,
            run_config=tune.RunConfig(verbose=0, callbacks=[self._recorder(name)]),
        )
        return self._life(name, tuner.fit())

    def run(self, name: str, kill_after: int | None, victim: Victim) -> tune.ResultGrid:
        """Run a trial in this process.

        Args:
            name: of the experiment.
            kill_after: after which iteration somebody is killed, or None.
            victim: who.
        """
        return tune.Tuner(
            self._trainable,
            param_space=self._config,
            run_config=tune.RunConfig(
                name=name,
                storage_path=self._directory,
                stop={_ITERATION: self._iterations},
                verbose=0,
                callbacks=[self._recorder(name, kill_after, victim)],
                failure_config=tune.FailureConfig(max_failures=int(kill_after is not None)),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=self._frequency),
            ),
        ).fit()

    def _next(self) -> str:
        return f"run-{next(self._numbers)}"

    def _lived(self, name: str, kill_after: int | None, victim: Victim) -> Life:
        return self._life(name, self.run(name, kill_after, victim))

    def _die(self, name: str, iteration: int) -> None:
        """Run in another process, which is killed."""
        payload = pack(self._trainable)
        buffers = [bytes(buffer) for buffer in payload.buffers]
        options = self._directory, self._config, self._iterations, self._frequency
        request = os.path.join(self._directory, f"{name}.request")
        with open(request, "wb") as file:
            file.write(dump((payload.pickled, buffers, options, name, iteration)))
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        done = subprocess.run(
            [sys.executable, "-c", f"from {__name__} import _victim; _victim()", request],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != -signal.SIGKILL:
            raise AssertionError(
                f"{self.name} has not come to iteration {iteration} in a process of its own, "
                f"which ended with status {done.returncode}:\n{done.stdout}{done.stderr}"
            )

    def _recorder(
        self, name: str, kill_after: int | None = None, victim: Victim = "worker"
    ) -> Recorder:
        return Recorder(os.path.join(self._directory, f"{name}.rows"), kill_after, victim)

    def _life(self, name: str, grid: tune.ResultGrid) -> Life:
        if len(grid) != 1:
            raise ValueError(
                f"config describes {len(grid)} trials; give it values, no grid_search."
            )
        (result,) = grid
        life = Life(error=None if result.error is None else str(result.error))
        path = os.path.join(self._directory, f"{name}.rows")
        if os.path.exists(path):
            with open(path, "rb") as file:
                while file.peek(1):
                    metrics = load(pickle.load(file))
                    life.rows.append(Row(metrics[_ITERATION], metrics))
        for _, each in verify.committed(result.path):
            directory = os.path.join(result.path, each.directory)
            life.checkpoints.append((each.iteration, directory))
        return life


def _victim() -> None:
    """Run what the request says that is named on the command line, until killed."""
    with open(sys.argv[1], "rb") as file:
        pickled, buffers, options, name, iteration = load(file.read())
    directory, config, iterations, frequency = options
    trainable = pickle.loads(pickled, buffers=buffers)
    Lives(directory, trainable, config, iterations, frequency).run(name, iteration, "driver")
