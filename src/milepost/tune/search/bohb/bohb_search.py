"""The searcher of BOHB."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from milepost.api import checks
from milepost.api.checks import ArgumentError
from milepost.api.spelling import did_you_mean
from milepost.tune.search.bohb.model import Model
from milepost.tune.search.bounds import number
from milepost.tune.search.domains import Categorical, Float, Integer
from milepost.tune.search.flat_space import Dimension, FlatSpace, Labels
from milepost.tune.search.library import LibrarySearcher, checked_points, required
from milepost.tune.utils.dicts import unflatten_list_dict

if TYPE_CHECKING:
    from ConfigSpace import Configuration, ConfigurationSpace

    from milepost.tune.compatible import Setting

logger = logging.getLogger("milepost.tune")

# Each with the largest value that makes sense.
_MODEL_ARGUMENTS = {
    "min_points_in_model": math.inf,
    "top_n_percent": 100,
    "num_samples": math.inf,
    "random_fraction": 1,
    "bandwidth_factor": math.inf,
    "min_bandwidth": math.inf,
}
_MAY_BE_ZERO = ("min_points_in_model", "random_fraction")


class TuneBOHB(LibrarySearcher):
    """Searches with the model of BOHB. Mirrors Ray's class.

    Use it with the scheduler ``HyperBandForBOHB``, which tells the budget of each result; without
    it every suggestion is drawn at random. The state of the search is the model with its random
    generators, so a restored search proposes what an uninterrupted one would have.

    Args:
        space: what to search, unless ``param_space`` tells: a ``ConfigSpace.ConfigurationSpace``,
            or a dict of Tune's search variables.
        bohb_config: arguments of the model: ``min_points_in_model``, ``top_n_percent`` (15),
            ``num_samples`` (64), ``random_fraction`` (1/3), ``bandwidth_factor`` (3) and
            ``min_bandwidth`` (0.001).
        metric: the metric to optimise.
        mode: ``"min"`` or ``"max"``. With ``space``, metric and mode must be given here.
        points_to_evaluate: configurations to try first, in order.
        seed: seed of the search.
        max_concurrent: how many trials may run at once, paused ones not counted; 0 for no limit.

    Raises:
        ImportError: ConfigSpace is not installed.
        ValueError: metric and mode do not fit together, a variable cannot be searched, or an
            argument is out of range.
        TypeError: the space or an argument of the model is of another kind.
    """

    library: ClassVar[str] = "BOHB"
    takes_any_point: ClassVar[bool] = False
    fills_points: ClassVar[bool] = False

    def __init__(
        self,
        space: Mapping[str, Any] | ConfigurationSpace | None = None,
        bohb_config: Mapping[str, Any] | None = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        seed: int | None = None,
        max_concurrent: int = 0,
    ) -> None:
        kinds = required("ConfigSpace", "bohb", "TuneBOHB")
        super().__init__(metric, mode)
        self._points = checked_points(points_to_evaluate)
        self._config = dict(bohb_config or {})
        for name, value in self._config.items():
            _check_model(name, value)
        owner = type(self).__name__
        given = checks.seed(owner, "seed", seed)
        self._seed = int.from_bytes(os.urandom(4)) // 2 if given is None else given
        self._max_concurrent = checks.integer(at_least=0, meaning=" 0 means no limit.")(
            owner, "max_concurrent", max_concurrent
        )
        self._flat: FlatSpace | None = None
        self._labels: dict[str, Labels] = {}
        self._rows: dict[str, Any] = {}
        self._running: set[str] = set()
        self._paused: set[str] = set()
        self._warned = False
        if space is not None and not isinstance(space, Mapping | kinds.ConfigurationSpace):
            raise TypeError(
                "The space of TuneBOHB must be a ConfigSpace.ConfigurationSpace or a dict of "
                f"search variables, got {space!r}."
            )
        self._begin(space)

    def _set_up(self, space: Any) -> None:
        import numpy as np
        from ConfigSpace import ConfigurationSpace

        if isinstance(space, FlatSpace):
            self._flat = space
            self._space = ConfigurationSpace(
                {name: self._hyperparameter(one) for name, one in space.dimensions.items()},
            )
        elif isinstance(space, ConfigurationSpace):
            self._space = space
        else:
            raise TypeError(f"The space of TuneBOHB has no search variables: {dict(space)!r}.")
        self._space.seed(self._seed)
        levels = [_levels(self._space[name]) for name in self._space]
        self._model = Model(levels, np.random.default_rng(self._seed), **self._config)
        self._points = [self._values(point) for point in self._points]

    def _hyperparameter(self, one: Dimension) -> Any:
        import ConfigSpace

        domain = one.domain
        if isinstance(domain, Categorical):
            one.require_flat_choice("BOHB")
            # Its own text per value: ConfigSpace would give back values of NumPy's types.
            labels = self._labels[one.name] = Labels(domain, always=True)
            return ConfigSpace.CategoricalHyperparameter(one.name, labels.choices)
        if one.normal is not None or not isinstance(domain, Float | Integer):
            raise one.unsupported("BOHB", "It searches numbers between bounds.")
        one.warn_of_dropped_step("BOHB")
        low, high = domain.lower, domain.upper
        if isinstance(domain, Float):
            return ConfigSpace.UniformFloatHyperparameter(one.name, low, high, log=one.is_log)
        if low == high - 1:
            return ConfigSpace.Constant(one.name, low)
        return ConfigSpace.UniformIntegerHyperparameter(one.name, low, high - 1, log=one.is_log)

    def _values(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """A point as ConfigSpace has it."""
        if self._flat is None:
            self._require_legal(point)
            return dict(point)
        values = self._flat.flat(point)
        return {
            name: self._labels[name].choice(name, value) if name in self._labels else value
            for name, value in values.items()
        }

    def _require_legal(self, point: Mapping[str, Any]) -> None:
        from ConfigSpace import Configuration

        try:
            Configuration(self._space, values=dict(point))
        except ValueError as error:
            raise ValueError(
                f"The point to evaluate {point!r} is none of the ConfigurationSpace: {error}"
            ) from error

    # --- what the run asks and tells ----------------------------------------------------------

    def check_run(self, setting: Setting) -> None:
        """Refuse a run with another limit, or what every searcher refuses.

        Raises:
            ValueError: the run cannot be searched.
        """
        if setting.limit:
            self._require_one_limit(setting.limit)
        super().check_run(setting)

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Limit how many trials run at once; returns True.

        Raises:
            ValueError: a limit was given already.
        """
        self._require_one_limit(max_concurrent)
        self._max_concurrent = max_concurrent
        return True

    def _require_one_limit(self, max_concurrent: int) -> None:
        if self._max_concurrent and self._max_concurrent != max_concurrent:
            raise ArgumentError(
                f"TuneBOHB was made with max_concurrent={self._max_concurrent}; a limit of "
                f"{max_concurrent} contradicts it. Give one of them."
            )

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the configuration of a new trial; None while as many run as may.

        Raises:
            RuntimeError: space, metric or mode are missing.
        """
        self._require_ready()
        if 0 < self._max_concurrent <= len(self._running):
            return None
        configuration = self._next()
        self._rows[trial_id] = configuration.get_array()
        self._running.add(trial_id)
        values = {name: _plain(value) for name, value in dict(configuration).items()}
        if self._flat is None:
            config: dict[str, Any] = unflatten_list_dict(values)
            return config
        for name, labels in self._labels.items():
            values[name] = labels.value(values[name])
        return self._flat.suggestion(values)

    def _next(self) -> Configuration:
        from ConfigSpace import Configuration
        from ConfigSpace.util import deactivate_inactive_hyperparameters

        if self._points:
            return Configuration(self._space, values=self._points.pop(0))
        row = self._model.propose()
        if row is None:
            return self._space.sample_configuration()
        values = {
            name: self._space[name].to_value(value)
            for name, value in zip(self._space, row, strict=True)
        }
        return deactivate_inactive_hyperparameters(
            configuration=values, configuration_space=self._space
        )

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Learn from a result whose budget the scheduler tells."""
        budget = _budget(result)
        if trial_id not in self._paused:
            self._running.add(trial_id)
        if budget is None:
            if not self._warned and not _has_info(result):
                self._warned = True
                logger.warning(
                    "TuneBOHB learns nothing from results without a budget. Use it with "
                    "TuneConfig(scheduler=HyperBandForBOHB(...)), which tells it."
                )
            return
        row = self._rows.get(trial_id)
        if row is not None:
            loss = float(self._measured(result)) * (-1.0 if self._mode == "max" else 1.0)
            self._model.learn(row, budget, loss)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Make room for another trial."""
        self._rows.pop(trial_id, None)
        self._running.discard(trial_id)
        self._paused.discard(trial_id)

    def on_pause(self, trial_id: str) -> None:
        """A trial is paused, and makes room for another one."""
        self._paused.add(trial_id)
        self._running.discard(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        """A paused trial goes on."""
        self._paused.discard(trial_id)
        self._running.add(trial_id)


def _check_model(name: str, value: Any) -> None:
    """Refuse an argument that the model does not take."""
    if name not in _MODEL_ARGUMENTS:
        raise TypeError(
            f"bohb_config has {name!r}, which the model of BOHB does not take."
            + did_you_mean(name, _MODEL_ARGUMENTS)
        )
    if value is None and name == "min_points_in_model":
        return
    most, may_be_zero = _MODEL_ARGUMENTS[name], name in _MAY_BE_ZERO
    number(f"{name} in bohb_config", value)
    if not (0 <= value <= most) or (value == 0 and not may_be_zero):
        least = "0 or more" if may_be_zero else "above 0"
        limit = "" if math.isinf(most) else f" and at most {most}"
        raise ValueError(f"{name} in bohb_config must be {least}{limit}, got {value!r}.")


def _levels(hyperparameter: Any) -> int:
    """How many categories a hyperparameter has; 0 when it is a number."""
    for attribute in ("choices", "sequence"):
        if hasattr(hyperparameter, attribute):
            return len(getattr(hyperparameter, attribute))
    return 1 if type(hyperparameter).__name__ == "Constant" else 0


def _has_info(result: Mapping[str, Any]) -> bool:
    return any(str(name).split("/")[0] == "hyperband_info" for name in result)


def _budget(result: Mapping[str, Any]) -> float | None:
    info = result.get("hyperband_info")
    budget = info.get("budget") if isinstance(info, Mapping) else None
    if budget is None:
        budget = result.get("hyperband_info/budget")
    return None if budget is None else float(budget)


def _plain(value: Any) -> Any:
    """A value of NumPy as Python's."""
    return value.item() if hasattr(value, "item") else value
