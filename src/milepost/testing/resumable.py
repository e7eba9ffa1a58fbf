"""Does a trainable go on after a kill as if nothing had happened?"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, get_args

from milepost.testing.comparing import Difference, differences, file_differences
from milepost.testing.lives import Life, Lives

By = Literal["retry", "restore"]

#: Fields of a row that differ from run to run.
VOLATILE = frozenset(
    {
        "checkpoint_dir_name",
        "config",
        "date",
        "experiment_tag",
        "hostname",
        "iterations_since_restore",
        "node_ip",
        "perf",
        "pid",
        "time_since_restore",
        "time_this_iter_s",
        "time_total_s",
        "timestamp",
        "timesteps_since_restore",
        "trial_id",
    }
)

_SHOWN = 8
_CAUSES = """\
What usually causes this:
  - the state of the optimizer, the learning-rate schedule or the gradient scaler is not saved,
  - the state of a random generator is not saved (Python's, NumPy's, torch's and CUDA's are four),
  - the order of the data begins anew, or the loader does not skip what was trained on,
  - something else that the next step needs is not saved: a counter, a best score, a buffer."""


def assert_resumable(
    trainable: str | Callable[..., Any] | type,
    config: Mapping[str, Any] | None = None,
    *,
    iterations: int = 5,
    by: By = "retry",
    after: Collection[int] | None = None,
    ignore: Collection[str] = (),
    tolerance: float = 0.0,
    checkpoint_frequency: int = 1,
    seed: int = 0,
) -> None:
    """Check that a trainable that is killed goes on as if it had not been killed.

    It is run once to the end. Then, for each iteration, it is run anew and killed with SIGKILL
    right after it has reported that iteration, before ``report`` returns or a class saves; it goes
    on from its latest checkpoint. All metrics, and the contents of all checkpoints, must be those
    of the run that was not killed. Each run is a real one, with real processes, in a temporary
    directory that is removed.

    Args:
        trainable: what ``Tuner`` takes.
        config: its hyper-parameters; fixed values, no search space.
        iterations: how many iterations are run; a trainable that ends earlier is fine.
        by: ``"retry"`` kills the worker, and the run tries the trial again; ``"restore"`` kills the
            whole run, and ``Tuner.restore`` goes on with it.
        after: the iterations after which it is killed; by default each in turn.
        ignore: patterns, as in file names, of what is not compared: metrics (``"eval/seconds"``),
            files of checkpoints (``"*.log"``) and what is in them (``"state.pt:started_at"``).
            Times, dates and ids that Milepost adds are never compared.
        tolerance: by how much floating-point numbers may differ, relative to the larger one; 0.0
            compares exactly. GPUs may need about 1e-6, unless they compute deterministically.
        checkpoint_frequency: how often a class saves.
        seed: of the workers' global random generators, for trainables that do not seed them.

    Raises:
        AssertionError: it does not go on as it should: the message names the iteration, what
            differs, both values, and what usually causes it. Or it cannot be said: two runs that
            were not killed differ as well, or one fails.
        ValueError: an argument is out of range.

    Example:
        >>> from milepost import tune
        >>> class Count(tune.Trainable):
        ...     def setup(self, config):
        ...         self.n = 0
        ...     def step(self):
        ...         self.n += 1
        ...         return {"n": self.n}
        ...     def save_checkpoint(self, checkpoint_dir):
        ...         return {"n": self.n}
        ...     def load_checkpoint(self, checkpoint):
        ...         self.n = checkpoint["n"]
        >>> assert_resumable(Count, iterations=3)                        # doctest: +SKIP
    """
    __tracebackhide__ = True  # pytest shows the caller's line, and not ours
    if by not in get_args(By):
        raise ValueError(f"by must be one of {get_args(By)}, got {by!r}")
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations!r}")
    # A short path: sockets lie below it, whose paths have at most 107 characters.
    with (
        tempfile.TemporaryDirectory(prefix="milepost-") as directory,
        _environment(directory, seed),
    ):
        lives = Lives(directory, trainable, dict(config or {}), iterations, checkpoint_frequency)
        _Check(lives, by, ignore, tolerance).run(after)


@dataclass
class _Check:
    lives: Lives
    by: By
    ignore: Collection[str]
    tolerance: float

    def run(self, after: Collection[int] | None) -> None:
        __tracebackhide__ = True
        name = self.lives.name
        whole = self.lives.uncut()
        if whole.error is not None:
            raise AssertionError(f"{name} fails without being killed: {whole.error}")
        if not whole.rows:
            raise AssertionError(f"{name} reports nothing, so there is nothing to compare")
        if not whole.checkpoints:
            raise AssertionError(
                f"{name} saves no checkpoint in {len(whole.rows)} iterations, so it cannot go on "
                "from one: report one with tune.report(metrics, checkpoint=...), or define "
                "save_checkpoint()."
            )
        for iteration in _moments(whole, after):
            self._compare(whole, self.lives.cut(iteration, self.by), iteration)

    def _compare(self, whole: Life, cut: Life, killed_after: int) -> None:
        __tracebackhide__ = True
        # A class is killed before it saves what it has just reported.
        start = whole.latest(killed_after - (self.lives.kind == "class"))
        how = f"killed after iteration {killed_after} and resumed from {_named(start)}"
        if cut.error is not None:
            raise AssertionError(f"{self.lives.name}, {how}, fails: {cut.error}")
        if cut.resumed is not None and cut.resumed.iteration != (start or 0) + 1:
            raise AssertionError(
                f"{self.lives.name}, killed after iteration {killed_after}, went on with iteration "
                f"{cut.resumed.iteration} and not from {_named(start)}"
            )
        for row in cut.rows[:killed_after]:
            found = self._row(whole, row)
            if found:
                self._raise_unsteady(f"at iteration {row.iteration}, before any kill", found)
        for row in cut.rows[killed_after:]:
            found = self._row(whole, row)
            if found:
                self._raise(whole, cut, how, f"reports at iteration {row.iteration}", found)
        missing = whole.iterations - cut.iterations
        if missing:
            numbers = ", ".join(map(str, sorted(missing)))
            self._raise(whole, cut, how, f"never reports iteration {numbers}", [])
        for iteration, path in cut.checkpoints:
            found = self._checkpoint(whole, iteration, path)
            if found:
                self._raise(
                    whole, cut, how, f"has in its checkpoint of iteration {iteration}", found
                )

    def _row(self, whole: Life, row: Any) -> list[Difference]:
        expected = whole.row(row.iteration)
        if expected is None:
            last = max(whole.iterations)
            return [Difference("training_iteration", f"at most {last}", str(row.iteration))]
        found = differences(
            _compared(expected), _compared(row.metrics), tolerance=self.tolerance,
            ignore=self.ignore,
        )  # fmt: skip
        return list(islice(found, _SHOWN + 1))

    def _checkpoint(self, whole: Life, iteration: int, path: str) -> list[Difference]:
        expected = whole.checkpoint(iteration)
        if expected is None:
            return []  # when it is saved may depend on where it was started
        found = _directory_differences(expected, path, tolerance=self.tolerance, ignore=self.ignore)
        return list(islice(found, _SHOWN + 1))

    def _raise(self, whole: Life, cut: Life, how: str, what: str, found: list[Difference]) -> None:
        """Fail; but first make sure that the kill is to blame."""
        __tracebackhide__ = True
        again = self.lives.uncut()
        for row in again.rows:
            unsteady = self._row(whole, row)
            if unsteady:
                self._raise_unsteady(f"at iteration {row.iteration}", unsteady)
        for iteration, path in again.checkpoints:
            unsteady = self._checkpoint(whole, iteration, path)
            if unsteady:
                self._raise_unsteady(f"in the checkpoint of iteration {iteration}", unsteady)
        raise AssertionError(
            f"{self.lives.name} is not resumable: {how}, it {what}{_listed(found)}\n"
            f"{self._began_anew(whole, cut)}{_CAUSES}"
        )

    def _began_anew(self, whole: Life, cut: Life) -> str:
        """Say so if what came after the resume looks like the beginning."""
        resumed = cut.resumed
        first = whole.rows[0]
        if resumed is None or resumed.iteration == 1:
            return ""
        counters = {"training_iteration", "done", "timesteps_total", "episodes_total"}
        one, other = (
            {k: v for k, v in _compared(row.metrics).items() if k not in counters}
            for row in (first, resumed)
        )
        if not one or any(differences(one, other, ignore=self.ignore)):
            return ""
        return (
            "It looks as if it began anew: its first metrics then are those of iteration 1. Does "
            "it load tune.get_checkpoint(), or what load_checkpoint() is given?\n"
        )

    def _raise_unsteady(self, where: str, found: list[Difference]) -> None:
        __tracebackhide__ = True
        raise AssertionError(
            f"{self.lives.name} cannot be compared: two runs of it that were not killed differ "
            f"{where}{_listed(found)}\nSeed every random generator that it uses, have it compute "
            "deterministically, or leave out what must differ with ignore=[...]."
        )


def _named(start: int | None) -> str:
    return "the beginning" if start is None else f"the checkpoint of iteration {start}"


def _moments(whole: Life, after: Collection[int] | None) -> list[int]:
    """The iterations after which a run can be killed and has something left to do."""
    last = whole.rows[-1]
    possible = [row.iteration for row in whole.rows if row is not last or not whole.was_stopped]
    if after is None:
        return possible
    wrong = sorted(set(after) - set(possible))
    if wrong:
        raise ValueError(
            f"after={sorted(after)}: the run cannot be killed after {wrong}; after each of "
            f"{possible} it can."
        )
    return sorted(after)


def _compared(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name not in VOLATILE}


def _directory_differences(
    expected: str, found: str, *, tolerance: float, ignore: Collection[str]
) -> Iterator[Difference]:
    files = [_files(directory) for directory in (expected, found)]
    for name in sorted(files[0] | files[1]):
        paths = [os.path.join(directory, name) for directory in (expected, found)]
        if name in files[0] & files[1]:
            for each in file_differences(*paths, tolerance=tolerance, ignore=ignore):
                folder = os.path.dirname(name)
                yield each._replace(path=os.path.join(folder, each.path))
        else:
            there = ["a file" if name in each else "no file" for each in files]
            yield from differences(*there, path=name, ignore=ignore)


def _files(directory: str) -> set[str]:
    from milepost.checkpoint import manifest

    return {entry.path for entry in manifest.read(directory).files}


def _listed(found: list[Difference]) -> str:
    lines = "".join(f"\n  {each}" for each in found[:_SHOWN])
    return f":{lines}" + ("\n  ... and more" if len(found) > _SHOWN else "") if found else ""


@contextlib.contextmanager
def _environment(directory: str, seed: int) -> Iterator[None]:
    """Have all runs seed their workers alike, leave nothing elsewhere, and say nothing of kills."""
    from milepost.control.workers import SEED_VARIABLE

    ours = {
        SEED_VARIABLE: str(seed),
        "MILEPOST_NODE_ROOT": os.path.join(directory, "node"),
        "TMPDIR": directory,  # what a killed worker had there stays there
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
