"""Search with the library bayesian-optimization."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from milepost.api.checks import integer, seed
from milepost.api.searcher import Searcher
from milepost.api.spelling import did_you_mean
from milepost.tune.search.bounds import number
from milepost.tune.search.domains import Float
from milepost.tune.search.flat_space import FlatSpace, logger
from milepost.tune.search.library import LibrarySearcher, checked_points, required
from milepost.tune.search.points import warn_of_outlier
from milepost.tune.utils.dicts import flatten_dict, unflatten_dict

__all__ = ["BayesOptSearch"]

_KINDS = ("ucb", "ei", "poi")
_UTILITY = {"kind": "ucb", "kappa": 2.576, "xi": 0.0}


class BayesOptSearch(LibrarySearcher):
    """Searches floats with a Gaussian process. Mirrors Ray's class.

    Its first suggestions are drawn at random; those after them wait until the first ones have
    ended. The state of the search is the process with its random generator, so a restored search
    proposes what an uninterrupted one would have.

    Args:
        space: what to search, unless ``param_space`` tells: a dict of ``(lower, upper)``, or of
            Tune's search variables.
        metric: the metric to optimise.
        mode: ``"min"`` or ``"max"``. With ``space``, metric and mode must be given here.
        points_to_evaluate: configurations to try first, in order.
        utility_kwargs: what is sought next: ``kind`` (``"ucb"``, ``"ei"`` or ``"poi"``), ``kappa``
            and ``xi``; the default is ``ucb`` with a kappa of 2.576.
        random_state: seed of the search.
        random_search_steps: how many suggestions are drawn at random.
        verbose: of the library.
        patience: how often a configuration may be suggested before the search ends; None for ever.
        skip_duplicate: leave out configurations that were suggested before.
        analysis: an ``ExperimentAnalysis`` whose trials are learned from.
        repeat_float_precision: how many digits count when configurations are compared.

    Raises:
        ImportError: bayesian-optimization is not installed.
        ValueError: metric and mode do not fit together, a variable is no float, an argument is
            out of range, or ``utility_kwargs`` has another kind or name.
        TypeError: an argument is of another type.
    """

    library: ClassVar[str] = "bayesian-optimization"
    fills_points: ClassVar[bool] = False

    def __init__(
        self,
        space: Mapping[str, Any] | None = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        utility_kwargs: Mapping[str, Any] | None = None,
        random_state: int = 42,
        random_search_steps: int = 10,
        verbose: int = 0,
        patience: int | None = 5,
        skip_duplicate: bool = True,
        analysis: Any = None,
        repeat_float_precision: int = 5,
    ) -> None:
        required("bayes_opt", "bayesopt", "BayesOptSearch")
        super().__init__(metric, mode)
        owner = type(self).__name__
        if patience is not None:
            patience = integer(at_least=1, meaning=" None means no limit.")(
                owner, "patience", patience
            )
        import numpy as np

        self._points = checked_points(points_to_evaluate)
        self._utility_kwargs = _utility(utility_kwargs)
        self._rng = np.random.RandomState(seed(owner, "random_state", random_state))
        self._random_steps = integer(at_least=0)(owner, "random_search_steps", random_search_steps)
        self._verbose = verbose
        self._patience = patience
        self._skips = skip_duplicate
        self._precision = repeat_float_precision
        self._analysis = analysis
        self._space: FlatSpace | None = None
        self._suggested: Counter[tuple[Any, ...]] = Counter()
        self._drawn = 0
        self._ended = 0
        self._unlearned: list[tuple[dict[str, float], float]] = []
        self._live: dict[str, dict[str, float]] = {}
        self._begin(space)

    def _set_up(self, space: Any) -> None:
        import bayes_opt

        if isinstance(space, FlatSpace):
            self._space = space
            bounds = {name: self._bounds(one) for name, one in space.dimensions.items()}
            self._points = [space.flat(point) for point in self._points]
        else:
            bounds = flatten_dict(dict(space), prevent_delimiter=True)
            for name, pair in bounds.items():
                if not isinstance(pair, list | tuple) or len(pair) != 2:
                    raise ValueError(
                        f"{name!r} must have (lower, upper) as its value, got {pair!r}."
                    )
            self._points = [flatten_dict(point) for point in self._points]
        for point in self._points:
            if point.keys() != bounds.keys():
                raise ValueError(
                    f"The point {point!r} must have a value for each of {', '.join(bounds)}."
                )
        self._limits = {name: (float(low), float(high)) for name, (low, high) in bounds.items()}
        for point in self._points:
            for name, (low, high) in self._limits.items():
                value = number(f"The value of {name!r} in the point {point!r}", point[name])
                if not low <= value <= high:
                    warn_of_outlier(point, name, value, f"uniform({low:g}, {high:g})")
        options: dict[str, Any] = {
            "f": None,
            "pbounds": self._limits,
            "random_state": self._rng,
            "verbose": self._verbose,
            "allow_duplicate_points": True,
        }
        self._utility: Any = None
        if hasattr(bayes_opt, "UtilityFunction"):  # before version 2
            self._utility = bayes_opt.UtilityFunction(**self._utility_kwargs)
        else:
            options["acquisition_function"] = _acquisition(self._utility_kwargs)
        self._optimizer = bayes_opt.BayesianOptimization(**options)
        if self._analysis is not None:
            self.add_evaluated_trials(self._analysis, self._metric)
            self._analysis = None

    def _bounds(self, one: Any) -> tuple[float, float]:
        domain = one.domain
        if not isinstance(domain, Float) or not math.isfinite(domain.upper - domain.lower):
            raise one.unsupported("bayesian-optimization", "It searches floats between bounds.")
        one.warn_of_dropped_step("bayesian-optimization")
        if one.is_log:
            logger.warning(
                "bayesian-optimization has no logarithmic ranges; %r is searched linearly.",
                one.name,
            )
        return domain.lower, domain.upper

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the configuration of a new trial; None while it has to wait for results.

        Raises:
            RuntimeError: space, metric or mode are missing.
        """
        self._require_ready()
        is_random = self._drawn < self._random_steps
        if not is_random and self._ended < self._random_steps:
            return None
        while True:
            before = self._rng.get_state()
            params = self._next_params(is_random=is_random)
            key = tuple(round(params[name], self._precision) for name in self._limits)
            is_known = self._suggested[key] > 0
            if is_known and self._skips and self._live:
                # Results of others may change its mind. What was not suggested leaves no trace,
                # so that a restored search, which knows of suggestions only, does the same.
                self._rng.set_state(before)
                return None
            self._suggested[key] += 1
            if self._patience is not None and self._suggested[key] > self._patience:
                return Searcher.FINISHED
            if not is_known or not self._skips:
                break
        self._drawn += is_random
        self._live[trial_id] = params
        if self._space is not None:
            return self._space.suggestion(params)
        config: dict[str, Any] = unflatten_dict(params)
        return config

    def _next_params(self, *, is_random: bool) -> dict[str, float]:
        if self._points:
            return self._points.pop(0)
        if is_random or not len(self._optimizer.space):
            return {
                n: float(self._rng.uniform(low, high)) for n, (low, high) in self._limits.items()
            }
        from threadpoolctl import threadpool_limits

        utility = () if self._utility is None else (self._utility,)
        with threadpool_limits(1):  # the matrices are small; trials need the other cores
            suggested = self._optimizer.suggest(*utility)
        return {name: float(value) for name, value in suggested.items()}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Learn from a result; failures and values that are not finite teach nothing.

        Raises:
            KeyError: the result lacks the metric.
        """
        params = self._live.pop(trial_id, None)
        if params is None:
            return
        self._ended += 1
        if result and not error:
            self._unlearned.append((params, self._measured(result)))
        if self._ended >= self._random_steps:
            for known, value in self._unlearned:
                self._learn(known, value)
            self._unlearned.clear()

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        """Learn from a configuration that was evaluated elsewhere, unless it failed.

        Raises:
            ValueError: a searched parameter is missing.
        """
        flat = flatten_dict(dict(parameters))
        missing = [name for name in self._limits if name not in flat]
        if missing:
            raise ValueError(f"The point {parameters!r} has no value for {', '.join(missing)}.")
        if not error and value is not None:
            self._learn({name: flat[name] for name in self._limits}, value)

    def _learn(self, params: Mapping[str, float], value: Any) -> None:
        target = float(value) * (-1.0 if self._mode == "min" else 1.0)
        if math.isfinite(target):
            self._optimizer.register(params=dict(params), target=target)


def _utility(chosen: Mapping[str, Any] | None) -> dict[str, Any]:
    """The whole of ``utility_kwargs``, checked."""
    where = "BayesOptSearch(utility_kwargs=...)"
    if chosen is not None and not isinstance(chosen, Mapping):
        raise TypeError(f"{where} must be a dict, got {chosen!r}.")
    utility = {**_UTILITY, **(chosen or {})}
    for name, value in utility.items():
        if name == "kind":
            if value not in _KINDS:
                raise ValueError(f"{where} has kind={value!r}.{did_you_mean(value, _KINDS)}")
        elif name in _UTILITY:
            number(f"{name} in {where}", value)
        else:
            raise ValueError(f"{where} has {name!r}.{did_you_mean(name, _UTILITY)}")
    return utility


def _acquisition(chosen: Mapping[str, Any]) -> Any:
    from bayes_opt import acquisition

    kinds = {
        "ucb": lambda: acquisition.UpperConfidenceBound(kappa=chosen["kappa"]),
        "ei": lambda: acquisition.ExpectedImprovement(xi=chosen["xi"]),
        "poi": lambda: acquisition.ProbabilityOfImprovement(xi=chosen["xi"]),
    }
    return kinds[chosen["kind"]]()
