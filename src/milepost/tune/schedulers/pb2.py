"""Population based bandits."""

from __future__ import annotations

import copy
import importlib.util
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from milepost.api.checks import ArgumentError
from milepost.errors import TuneError
from milepost.tune.schedulers import bandit, explore
from milepost.tune.schedulers.bandit import Observation
from milepost.tune.schedulers.pbt import PopulationBasedTraining
from milepost.tune.search.bounds import number
from milepost.tune.search.domains import Categorical, Float, Integer
from milepost.tune.search.space import Grid, variable_of

if TYPE_CHECKING:
    from milepost.control.facade import Trial
    from milepost.tune.compatible import Setting
    from milepost.tune.schedulers.population import Member

Bounds = dict[tuple[Any, ...], tuple[float, float]]


class PB2(PopulationBasedTraining):
    """Population based training that chooses configs by a model of what they have brought so far.

    Mirrors ``ray.tune.schedulers.pb2.PB2``. See Parker-Holder et al., "Provably Efficient Online
    Hyperparameter Optimization with Population-Based Bandits". Instead of changing the donor's
    config at random, the hyper-parameters are those for which a Gaussian process promises the
    largest gain of the score per unit of time. Those are within the bounds; trials begin where
    ``param_space`` says. Needs SciPy.

    Args:
        time_attr, metric, mode, perturbation_interval, quantile_fraction, log_config,
            require_attrs, synch: as for :class:`PopulationBasedTraining`.
        hyperparam_bounds: hyper-parameter -> ``[low, high]``, or a dict of nested ones. Those that
            the config lacks begin anywhere between.
        custom_explore_fn: changed config -> config; called last.

    Raises:
        RuntimeError: SciPy is not installed.
        TuneError: there are no bounds.
        TypeError: a bound is no number.
        ValueError: bounds are no pair, or the first is above the second.
    """

    def __init__(
        self,
        time_attr: str = "time_total_s",
        metric: str | None = None,
        mode: str | None = None,
        perturbation_interval: float = 60.0,
        hyperparam_bounds: dict[str, Any] | None = None,
        quantile_fraction: float = 0.25,
        log_config: bool = True,
        require_attrs: bool = True,
        synch: bool = False,
        custom_explore_fn: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        if importlib.util.find_spec("scipy") is None:
            raise RuntimeError("PB2 needs SciPy: pip install milepost[pb2]")
        if not hyperparam_bounds:
            raise TuneError("PB2 needs hyperparam_bounds={name: [low, high]}.")
        if not isinstance(hyperparam_bounds, Mapping):
            raise TypeError(
                "PB2(hyperparam_bounds=...) must be a dict from hyper-parameter to [low, high], "
                f"got {hyperparam_bounds!r}."
            )
        self._bounds = _flat_bounds(hyperparam_bounds)
        super().__init__(
            time_attr=time_attr,
            metric=metric,
            mode=mode,
            perturbation_interval=perturbation_interval,
            hyperparam_mutations=hyperparam_bounds,
            quantile_fraction=quantile_fraction,
            custom_explore_fn=custom_explore_fn,
            log_config=log_config,
            require_attrs=require_attrs,
            synch=synch,
        )
        self._observations: list[Observation] = []
        self._pending: dict[str, tuple[float, ...]] = {}  # chosen, and not known yet

    def doubts(self, setting: Setting) -> list[str]:
        """Return what is probably misspelt, and where trials begin outside of the bounds."""
        lines = super().doubts(setting)
        for path, (low, high) in self._bounds.items():
            value = _get(setting.space, path)
            least, most = _extent(value)
            if least < low or most > high:
                lines.append(
                    f"{type(self).__name__} chooses {'/'.join(map(str, path))!r} from {low:g} to "
                    f"{high:g}, and trials begin with {value!r} from param_space: those outside "
                    "stay there until they go on from another one. Give param_space the same "
                    "bounds, or leave it out there, and it is drawn from between."
                )
        return lines

    def _draws_from_numpy(self) -> bool:
        return True

    def _fill(self, config: dict[str, Any]) -> dict[str, Any]:
        drawn: dict[str, Any] = {}
        for path, (low, high) in self._bounds.items():
            if not _has(config, path):
                value = float(self._random().numpy.uniform(low, high))
                _put(config, path, value)
                _put(drawn, path, value)
        return drawn

    def _note(
        self, trial: Trial, member: Member, result: dict[str, Any], time: float, score: float
    ) -> None:
        before, since = member.score, member.time
        super()._note(trial, member, result, time, score)
        self._pending.pop(trial.trial_id, None)
        values = tuple(_get(trial.config, path) for path in self._bounds)
        if before is None or time <= since:
            return
        gain = (score - before) / (time - since)
        if math.isfinite(gain) and all(isinstance(v, int | float) for v in values):
            self._observations.append(Observation(time, before, values, gain))
            del self._observations[: -bandit.MOST]

    def _leave(self, tune_controller: Any, trial: Trial) -> None:
        self._pending.pop(trial.trial_id, None)
        super()._leave(tune_controller, trial)

    def _explored(self, donor: Trial, trial: Trial) -> dict[str, Any]:
        """The donor's config, with hyper-parameters that promise most."""
        config = copy.deepcopy(dict(donor.config))
        member = self._members[donor.trial_id]
        chosen = bandit.choose(
            self._observations,
            list(self._pending.values()),
            list(self._bounds.values()),
            member.time,
            member.score or 0.0,
            self._random().numpy,
        )
        if chosen is not None:
            self._pending[trial.trial_id] = chosen
            for path, value in zip(self._bounds, chosen, strict=True):
                old = _get(config, path)
                _put(config, path, _like(old, value))
        if self._custom_explore_fn is None:
            return config
        changed = self._custom_explore_fn(config)
        if changed is None:
            raise ArgumentError(
                "PB2(custom_explore_fn=...) returned None. It must return the changed config."
            )
        return changed

    def _state(self) -> tuple[str, ...]:
        return (*super()._state(), "_observations", "_pending")


def _flat_bounds(bounds: Mapping[Any, Any], prefix: tuple[Any, ...] = ()) -> Bounds:
    found: Bounds = {}
    for key, value in bounds.items():
        path = (*prefix, key)
        if variable_of(value, path) is not None:
            raise ValueError(
                f"PB2: {'/'.join(map(str, path))!r} is {value!r}, a search variable such as a "
                "domain or a grid. Give its bounds: [low, high]."
            )
        if isinstance(value, Mapping):
            found.update(_flat_bounds(value, path))
            continue
        name = "/".join(map(str, path))
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise ValueError(f"PB2: the bounds of {name!r} must be [low, high], got {value!r}.")
        low, high = (number(f"PB2: each of the bounds of {name!r}", bound) for bound in value)
        if not low <= high:
            raise ValueError(f"PB2: the lower bound of {name!r} is above the upper one: {value!r}.")
        found[path] = low, high
    return found


def _has(config: Any, path: tuple[Any, ...]) -> bool:
    return bool(explore.values_at(config, _nested(path)))


def _nested(path: tuple[Any, ...]) -> dict[Any, Any]:
    return {path[0]: None if len(path) == 1 else _nested(path[1:])}


def _get(config: Any, path: tuple[Any, ...]) -> Any:
    return explore.values_at(config, _nested(path)).get(path)


def _put(config: dict[Any, Any], path: tuple[Any, ...], value: Any) -> None:
    """Set a value; dicts on the way to it are replaced by copies."""
    for key in path[:-1]:
        config[key] = dict(config.get(key, {}))
        config = config[key]
    config[path[-1]] = value


def _extent(value: Any) -> tuple[float, float]:
    """The smallest and the largest number that a value of a space may become."""
    variable = variable_of(value, ())
    if isinstance(variable, Float):
        return variable.lower, variable.upper
    if isinstance(variable, Integer):
        return variable.lower, max(variable.lower, variable.upper - 1)
    values: Any = (value,)
    if isinstance(variable, Grid):
        values = variable.values
    elif isinstance(variable, Categorical):
        values = variable.categories
    numbers = [float(each) for each in values if isinstance(each, int | float)]
    return min(numbers, default=math.inf), max(numbers, default=-math.inf)


def _like(old: Any, value: float) -> Any:
    """A number of the type of the one that it replaces."""
    if isinstance(old, bool):
        return bool(round(value))
    return round(value) if isinstance(old, int) else value
