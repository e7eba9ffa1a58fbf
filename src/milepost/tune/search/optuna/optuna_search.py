"""Search with Optuna."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from milepost.api import checks
from milepost.api.fields import TRAINING_ITERATION
from milepost.tune.search.flat_space import FlatSpace
from milepost.tune.search.library import (
    LibrarySearcher,
    checked_points,
    checked_rewards,
    required,
)
from milepost.tune.search.optuna.random_state import settle
from milepost.tune.search.optuna.spaces import DefineByRun, DistributionSpace, Space, TuneSpace

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

logger = logging.getLogger("milepost.tune")

_OLDEST = (3, 0)
# By this attribute a trial in a storage of its own is known to a restored search.
_OURS = "milepost_trial_id"


class OptunaSearch(LibrarySearcher):
    """Searches with Optuna, by default with its TPE sampler. Mirrors Ray's class.

    The state of the search is the study and the sampler with its random generator, so a restored
    search proposes what an uninterrupted one would have. A study in a storage of its own goes on
    from what that storage holds instead: no trial is asked for or told twice, and new ones are
    drawn anew.

    Args:
        space: what to search, unless ``param_space`` tells: a dict of Optuna distributions, of
            Tune's search variables, or a function that takes a trial, calls its ``suggest_``
            methods and may return a dict of constants.
        metric: the metric to optimise, or a list of several.
        mode: ``"min"`` or ``"max"``, or a list. With ``space``, metric and mode must be given here.
        points_to_evaluate: configurations to try first, in order; what one leaves out is sampled.
        sampler: an Optuna sampler; the default is ``TPESampler(seed=seed)``.
        study_name: default ``"optuna"``.
        storage: an Optuna storage object, where the study is kept; default in memory.
        seed: of the default sampler.
        evaluated_rewards: the metric of each of ``points_to_evaluate``, which then are not run.

    Raises:
        ImportError: Optuna is not installed or older than 3.0.
        ValueError: metric and mode do not fit together, a variable cannot be searched,
            ``evaluated_rewards`` are more or fewer than the points, or the seed is negative.
        TypeError: the space is of another kind, ``evaluated_rewards`` come with a function, or the
            seed is no whole number.
    """

    library: ClassVar[str] = "Optuna"

    def __init__(
        self,
        space: Mapping[str, Any] | Callable[[Trial], dict[str, Any] | None] | None = None,
        metric: str | Sequence[str] | None = None,
        mode: str | Sequence[str] | None = None,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        sampler: BaseSampler | None = None,
        study_name: str | None = None,
        storage: BaseStorage | None = None,
        seed: int | None = None,
        evaluated_rewards: Sequence[Any] | None = None,
    ) -> None:
        optuna = required("optuna", "optuna", "OptunaSearch")
        _require_version(optuna.__version__)
        super().__init__(metric, mode)
        if space is not None and not callable(space) and not isinstance(space, Mapping):
            raise TypeError(
                "The space of OptunaSearch must be a dict of distributions, a dict of search "
                f"variables or a function that takes a trial, got {space!r}."
            )
        _require_instance("sampler", sampler, optuna.samplers.BaseSampler)
        _require_instance("storage", storage, optuna.storages.BaseStorage)
        seed = checks.seed(type(self).__name__, "seed", seed)
        if sampler is not None and seed is not None:
            logger.warning("seed=%r has no effect: the sampler that is given has its own.", seed)
        self._points = checked_points(points_to_evaluate)
        self._rewards = checked_rewards(evaluated_rewards, self._points)
        if self._rewards and callable(space):
            raise TypeError(
                "evaluated_rewards need a space whose parameters are known; with a function that "
                "defines it by running they are not. Give a dict of distributions."
            )
        self._sampler = sampler or optuna.samplers.TPESampler(seed=_seed(seed))
        self._study_name = study_name or "optuna"
        self._storage = storage
        self._study: Study | None = None
        self._params: Space | None = None
        self._trials: dict[str, Trial] = {}
        self._steps: dict[str, int] = {}
        self._completed: set[str] = set()
        # Trials of a storage that an earlier process has asked for; those that have ended there.
        self._earlier: set[str] = set()
        self._kept: dict[str, FrozenTrial] = {}
        self._is_behind = False
        self._begin(space)

    @property
    def study(self) -> Study | None:
        """The study; None while there is no space."""
        return self._study

    def _set_up(self, space: Any) -> None:
        import optuna

        if isinstance(space, FlatSpace):
            self._params = TuneSpace(space)
        elif callable(space):
            self._params = DefineByRun(space)
        else:
            self._params = DistributionSpace(space)
        settle(self._sampler)
        self._study = optuna.create_study(
            storage=self._storage,
            sampler=self._sampler,
            pruner=optuna.pruners.NopPruner(),
            study_name=self._study_name,
            load_if_exists=True,
            **self._direction(),
        )
        self._look_into_storage()
        if self._rewards:
            for point, reward in zip(self._points, self._rewards, strict=True):
                self.add_evaluated_point(point, reward)
        else:
            for point in self._points:
                self._study.enqueue_trial(
                    self._params.params(point), skip_if_exists=self._storage is not None
                )

    def _direction(self) -> dict[str, Any]:
        if isinstance(self._mode, list | tuple):
            return {"directions": [_direction_of(mode) for mode in self._mode]}
        return {"direction": _direction_of(self._mode)}

    @property
    def _is_single(self) -> bool:
        return isinstance(self._metric, str)

    # --- what the run asks and tells ----------------------------------------------------------

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the configuration of a new trial of the study; the same for the same id.

        Raises:
            RuntimeError: space, metric or mode are missing.
        """
        self._require_ready()
        assert self._params is not None
        trial = self._trials.get(trial_id) or self._kept.get(trial_id)
        if trial is None:
            trial = self._trials[trial_id] = self._ask(trial_id)
        elif trial_id in self._earlier:
            self._is_behind = True
        return self._params.config(trial)

    def _ask(self, trial_id: str) -> Trial:
        assert self._study is not None
        assert self._params is not None
        if self._is_behind:  # the storage is ahead of the generator, which would repeat itself
            self._study.sampler.reseed_rng()
            self._is_behind = False
        trial = self._study.ask(self._params.distributions())
        if self._storage is not None:
            trial.set_user_attr(_OURS, trial_id)
        return trial

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell the metric as an intermediate value; not with several metrics.

        Raises:
            KeyError: the result lacks the metric.
        """
        if not self._is_single or trial_id in self._kept:
            return
        if trial_id in self._completed:
            logger.warning("A result of trial %s came after its end; it is not used.", trial_id)
            return
        value, step = self._measured(result), int(result[TRAINING_ITERATION])
        if step <= self._steps.get(trial_id, -1):
            return  # a trial that was taken up again from its checkpoint repeats an iteration
        self._steps[trial_id] = step
        self._trials[trial_id].report(value, step=step)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the outcome: its value; pruned without one; failed, or a value that is no number.

        A failed trial teaches the sampler nothing.
        """
        if self._kept.pop(trial_id, None) is not None:
            self._completed.add(trial_id)
            return
        trial = self._trials.pop(trial_id, None)
        if trial is None:
            logger.warning("Trial %s has ended before or was never suggested.", trial_id)
            return
        self._completed.add(trial_id)
        self._steps.pop(trial_id, None)
        self._tell(trial, self._values(result), error)

    def _values(self, result: Mapping[str, Any] | None) -> Any:
        if not result:
            return None
        if self._is_single:
            return result.get(self._metric)
        return [result.get(metric) for metric in self._metric]

    def _tell(self, trial: Trial, values: Any, error: bool) -> None:
        from optuna.trial import TrialState

        assert self._study is not None
        state = TrialState.COMPLETE
        if values is None:
            state = TrialState.FAIL if error else TrialState.PRUNED
        elif not all(map(_is_number, values if isinstance(values, list) else [values])):
            logger.warning(
                "Trial %d of the study ended with %s=%r, which is no value that Optuna can learn "
                "from; there it counts as failed.",
                trial.number,
                self._metric,
                values,
            )
            state, values = TrialState.FAIL, None
        self._study.tell(trial, values, state=state)

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: Any,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        """Add a finished trial to the study.

        Args:
            parameters: a configuration with a value for each searched parameter.
            value: its metric, or a list of several.
            error: whether it failed; then the value is left out.
            pruned: whether it was stopped early.
            intermediate_values: its metric over time, oldest first.

        Raises:
            RuntimeError: space, metric or mode are missing.
            TypeError: the space is a function.
            ValueError: a parameter is missing or has a value that it cannot have.
        """
        from optuna.trial import TrialState, create_trial

        if self._study is None or not self._metric or not self._mode:
            self._require_ready()
        assert self._study is not None
        assert self._params is not None
        distributions = self._params.distributions()
        if distributions is None:
            raise TypeError(
                "Points cannot be added where a function defines the space by running: their "
                "parameters are not known. Give a dict of distributions."
            )
        params = self._params.params(parameters)
        missing = [name for name in distributions if name not in params]
        if missing:
            raise ValueError(
                f"The evaluated point {parameters!r} has no value for {', '.join(missing)}."
            )
        state = TrialState.COMPLETE
        if pruned:
            state = TrialState.PRUNED
        if error:
            state, value = TrialState.FAIL, None
        several = isinstance(value, list | tuple)
        trial = create_trial(
            state=state,
            value=None if several else value,
            values=value if several else None,
            params=params,
            distributions=distributions,
            intermediate_values=dict(enumerate(intermediate_values or [])),
        )
        if self._storage is None or not self._has(trial):
            self._study.add_trial(trial)

    # --- going on after an interruption -------------------------------------------------------

    def restore(self, checkpoint_path: str) -> None:
        """Take back what :meth:`save` wrote to a file, and what a storage has learned since."""
        super().restore(checkpoint_path)
        self._look_into_storage()

    def _look_into_storage(self) -> None:
        """Take up trials that an earlier process has asked for in the same storage."""
        if self._storage is None or self._study is None:
            return
        from optuna.trial import Trial

        ours = [one for one in self._study.get_trials(deepcopy=False) if _OURS in one.user_attrs]
        self._trials.clear()
        self._earlier = {one.user_attrs[_OURS] for one in ours}
        for frozen in ours:
            trial_id = frozen.user_attrs[_OURS]
            if frozen.state.is_finished():
                self._kept[trial_id] = frozen
            else:
                self._trials[trial_id] = Trial(self._study, frozen._trial_id)
                self._steps[trial_id] = frozen.last_step if frozen.last_step is not None else -1

    def _has(self, trial: FrozenTrial) -> bool:
        assert self._study is not None
        return any(
            (known.params, known.values, known.state) == (trial.params, trial.values, trial.state)
            for known in self._study.get_trials(deepcopy=False)
        )


def _direction_of(mode: Any) -> str:
    return "minimize" if mode == "min" else "maximize"


def _is_number(value: Any) -> bool:
    try:
        return not math.isnan(float(value))
    except (TypeError, ValueError):
        return False


def _seed(seed: int | None) -> int:
    """A seed, because a sampler that has none could not be restored before its first draw."""
    return int.from_bytes(os.urandom(4)) if seed is None else seed


def _require_version(version: str) -> None:
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if parts < _OLDEST:
        raise ImportError(
            f"OptunaSearch needs Optuna {'.'.join(map(str, _OLDEST))} or newer, {version} is "
            "installed: run `pip install -U 'milepost[optuna]'`."
        )


def _require_instance(name: str, value: Any, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        from milepost.api.checks import ArgumentError

        raise ArgumentError(
            f"The {name} of OptunaSearch must be an object derived from "
            f"optuna.{name}s.{kind.__name__}, got {value!r}."
        )
