"""Random and grid search."""

from __future__ import annotations

import glob
import os
import pickle
import sys
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import islice
from typing import TYPE_CHECKING, Any

from milepost.api.search_algorithm import SearchAlgorithm, TrialSpec
from milepost.tune.search.library import checked_points
from milepost.tune.search.samplers import RandomSource
from milepost.tune.search.tags import flat_params, tag_of
from milepost.tune.search.variants import (
    Variant,
    count,
    finished,
    shape,
    variants,
    warn_of_outliers,
    with_preset,
)

if TYPE_CHECKING:
    from milepost.tune.compatible import Setting
    from milepost.tune.search.samplers import RandomState

# As in Ray, so many proposed trials wait at most.
_AHEAD = 200


class BasicVariantGenerator(SearchAlgorithm):
    """Samples a search space at random and expands its grids. Mirrors Ray's class.

    Each of ``num_samples`` samples draws the random variables and makes one trial per combination
    of the grids. Trials are made one by one, so a space may be as large as it likes.

    Args:
        points_to_evaluate: configurations to try first; each takes the place of one sample. What
            a point leaves out is sampled.
        max_concurrent: how many trials may be out at once; 0 for no limit.
        constant_grid_search: draw the random variables once per sample, for all combinations.
        random_state: a NumPy generator, or a seed for one; the default draws from NumPy's global
            generator, so that ``np.random.seed`` counts.

    Raises:
        TypeError: the points are no list of dicts.
        ValueError: ``max_concurrent`` is negative.
    """

    CKPT_FILE_TMPL = "basic-variant-state-{}.json"

    def __init__(
        self,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        max_concurrent: int = 0,
        constant_grid_search: bool = False,
        random_state: RandomState = None,
    ) -> None:
        if max_concurrent < 0:
            raise ValueError(f"max_concurrent must be zero or more, got {max_concurrent!r}.")
        self.max_concurrent = max_concurrent
        self._points = deepcopy(checked_points(points_to_evaluate))
        self._constant_grid_search = constant_grid_search
        self._prefix = os.environ.get("_TEST_TUNE_TRIAL_UUID") or os.urandom(3).hex()[:5]
        self._experiments: list[tuple[Any, int]] = []
        self._live: set[str] = set()
        self._counter = 0
        self._source = RandomSource(random_state)
        # Where the search is: the experiment, the sample in it, and how many of that sample's
        # variants are taken. The source's mark is where that sample began.
        self._at = (0, 0)
        self._taken = 0
        self._current: Iterator[Variant] | None = None
        # Each trial has the variant at its own place, so as many are taken as there are trials
        # before. Those differ where an earlier run had more trials than there are variants.
        self._passed = 0
        self._shapes: list[Any] = []
        # Where all of that means something: the shapes of an earlier run's spaces, until they are
        # compared with those of this one, and where its draws began.
        self._shapes_before: list[Any] | None = None
        self._start: Any = None

    @property
    def total_samples(self) -> int:
        """How many trials there will be, as far as known before choices are made."""
        return sum(self._total(space, samples) for space, samples in self._experiments)

    @property
    def trials_ahead(self) -> int:
        """Many, since no proposal learns from results."""
        return _AHEAD

    def check_run(self, setting: Setting) -> None:
        """Refuse a space with bad grids, and points that are not in it.

        Raises:
            KeyError: a point to evaluate names something that is not in the space.
            ValueError: a grid has no values.
        """
        self._total(setting.space, 1)

    def add_configurations(self, experiments: Any) -> None:
        """Take the search spaces of one or several experiments.

        Args:
            experiments: an experiment (anything with a ``spec`` that holds ``config`` and
                ``num_samples``), a list of them, or a dict of them by name.

        Raises:
            KeyError: a point to evaluate names something that is not in the space.
            ValueError: a grid has no values.
        """
        if isinstance(experiments, Mapping):
            experiments = list(experiments.values())
        elif not isinstance(experiments, list | tuple):
            experiments = [experiments]
        for experiment in experiments:
            space = experiment.spec.get("config") or {}
            samples = int(experiment.spec.get("num_samples", 1))
            self._total(space, samples)  # refuses bad grids and points now, not at a later trial
            for point in self._points:
                warn_of_outliers(space, point)
            self._experiments.append((space, samples))
            presets = [with_preset(space, point) for point in self._points]
            self._shapes.append([shape(each) for each in (*presets, space)])
        self._finished = False

    def next_trial(self, trial_id: str | None = None) -> TrialSpec | None:
        """Return the next trial; None when too many are out, or when there are no more.

        Args:
            trial_id: of a trial that exists already; then limits do not count.

        Raises:
            RecursiveDependencyError: expressions depend on each other in a circle.
            ValueError: an expression fails.
        """
        if trial_id is None and (self._finished or self._is_full()):
            return None
        variant = self._variant_due()
        if variant is None:
            self.set_finished()
            self._counter += trial_id is not None
            return None
        if trial_id is None:
            trial_id = f"{self._prefix}_{self._counter:05d}"
        trial = TrialSpec(
            trial_id=trial_id,
            config=finished(variant.config),
            evaluated_params=flat_params(variant.resolved),
            experiment_tag=tag_of(self._counter, variant.resolved),
        )
        self._counter += 1
        self._live.add(trial_id)
        return trial

    def adopt(self, trial_id: str) -> bool:
        """Leave out one trial: it exists already, with values of its own."""
        return self.next_trial(trial_id) is not None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Make room for another trial."""
        self._live.discard(trial_id)

    def _is_full(self) -> bool:
        return 0 < self.max_concurrent <= len(self._live)

    # --- going on after an interruption -------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """Return where the search is; :meth:`set_state` goes on from there with the same draws.

        That it has ended is not part of it: it may go on with more samples.
        """
        return {
            "prefix": self._prefix,
            "counter": self._counter,
            "at": self._at,
            "taken": self._taken,
            "random": self._source.state_at_mark(),
            "passed": self._passed,
            "start": self._start,
            "shapes": self._shapes if self._shapes_before is None else self._shapes_before,
            "live": sorted(self._live),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`get_state` returned.

        Where the spaces have changed, new trials come from the new ones. With other grids the
        search goes on after as many variants of the new spaces as there were trials.
        """
        self._prefix = state["prefix"]
        self._counter = state["counter"]
        self._at = tuple(state["at"])
        self._taken = state["taken"]
        self._live = set(state["live"])
        self._current = None
        self._passed = state.get("passed", self._counter)
        self._start = state.get("start")
        self._shapes_before = state.get("shapes")
        if state["random"] is not None:
            self._source = RandomSource.at(state["random"])

    def has_checkpoint(self, dirpath: str) -> bool:
        """Whether a directory holds a state of this search."""
        return bool(_states(dirpath, self.CKPT_FILE_TMPL))

    def save_to_dir(self, dirpath: str, session_str: str) -> None:
        """Write the state into a directory so that a crash leaves the old or the new one."""
        target = os.path.join(dirpath, self.CKPT_FILE_TMPL.format(session_str))
        draft = f"{target}.tmp"
        with open(draft, "wb") as file:
            pickle.dump(self.get_state(), file)
        os.replace(draft, target)

    def restore_from_dir(self, dirpath: str) -> None:
        """Take back the newest state that :meth:`save_to_dir` wrote into a directory.

        Raises:
            RuntimeError: the directory holds none.
        """
        states = _states(dirpath, self.CKPT_FILE_TMPL)
        if not states:
            raise RuntimeError(f"There is no state of a random or grid search in {dirpath}.")
        with open(states[-1], "rb") as file:
            self.set_state(pickle.load(file))

    # --- where the search is ------------------------------------------------------------------

    def _total(self, space: Any, samples: int) -> int:
        points = sum(count(with_preset(space, point)) for point in self._points)
        return points + max(0, _unlimited(samples) - len(self._points)) * count(space)

    def _variant_due(self) -> Variant | None:
        """The variant at the place of the next trial; None when the spaces have no such place."""
        before, self._shapes_before = self._shapes_before, None
        if before is not None and before != self._shapes and self._start is not None:
            self._rewind()
        while self._passed < self._counter:
            if self._next_variant() is None:
                return None
        return self._next_variant()

    def _rewind(self) -> None:
        """Go back to the first variant."""
        self._at, self._taken, self._passed, self._current = (0, 0), 0, 0, None
        self._source = RandomSource.at(self._start)

    def _next_variant(self) -> Variant | None:
        while True:
            if self._current is None:
                space = self._space_of_sample()
                if space is None:
                    return None
                self._source.mark()
                if self._start is None and not self._passed:
                    self._start = self._source.state_at_mark()
                drawn = variants(
                    space, self._source, constant_grid_search=self._constant_grid_search
                )
                # After a restore the sample is drawn again up to where the search was.
                self._current = islice(drawn, self._taken, None)
            variant = next(self._current, None)
            if variant is not None:
                self._taken += 1
                self._passed += 1
                return variant
            experiment, sample = self._at
            self._at, self._taken, self._current = (experiment, sample + 1), 0, None
            self._source.mark()  # also after the last sample: more may be asked for later

    def _space_of_sample(self) -> Any:
        """The space of the sample that is due, with its preset; None when all are done."""
        while self._experiments:
            experiment, sample = self._at
            space, samples = self._experiments[experiment]
            if sample < len(self._points):
                return with_preset(space, self._points[sample])
            if sample < _unlimited(samples):
                return space
            if experiment + 1 == len(self._experiments):
                break  # and it stays there, because a restored search may get more samples
            self._at = (experiment + 1, 0)
        return None


def _unlimited(samples: int) -> int:
    return sys.maxsize if samples == -1 else samples


def _states(dirpath: str, template: str) -> list[str]:
    return sorted(glob.glob(os.path.join(glob.escape(dirpath), template.format("*"))))
