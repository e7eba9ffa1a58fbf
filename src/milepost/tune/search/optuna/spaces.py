"""The three kinds of spaces that Optuna searches for a run."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from milepost.api.spelling import did_you_mean
from milepost.tune.search.domains import Categorical, Float, Integer
from milepost.tune.search.flat_space import Dimension, FlatSpace, Labels
from milepost.tune.search.samplers import grid_index
from milepost.tune.search.space import filled, variables
from milepost.tune.utils.dicts import flatten_dict, unflatten_dict

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

logger = logging.getLogger("milepost.tune")

_SLOW_S = 1.0


class Space(Protocol):
    """Where configurations come from."""

    def distributions(self) -> dict[str, BaseDistribution] | None:
        """Parameters that every trial has; None when each trial shows its own."""

    def config(self, trial: Trial) -> dict[str, Any]:
        """Return the configuration of a trial."""

    def params(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return a configuration as parameters of Optuna."""


class TuneSpace:
    """Search variables of Tune; values of a choice may hold variables of their own."""

    def __init__(self, space: FlatSpace) -> None:
        self._space = space
        self._labels: dict[str, Labels] = {}
        self._distributions = {
            name: self._distribution(one) for name, one in space.dimensions.items()
        }

    def distributions(self) -> dict[str, BaseDistribution] | None:
        """A distribution for each variable."""
        return self._distributions

    def config(self, trial: Trial) -> dict[str, Any]:
        """Return the values of a trial in their places."""
        params = trial.params
        values = {}
        for name, distribution in self._distributions.items():
            value = params[name] if name in params else drawn(trial, name, distribution)
            values[name] = self._chosen(trial, name, value)
        return self._space.suggestion(values)

    def params(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return values by name; those of choices as Optuna knows them."""
        return {
            name: self._labels[name].choice(name, value) if name in self._labels else value
            for name, value in self._space.flat(point).items()
        }

    def _chosen(self, trial: Trial, name: str, value: Any) -> Any:
        """A value; variables in what was chosen are drawn in turn."""
        labels = self._labels.get(name)
        if labels is None:
            return value
        choice, value = value, labels.value(value)
        inner = {}
        for path, variable in variables(value):
            below = "/".join((name, str(choice).split(":")[0], *map(str, path)))
            one = Dimension(below, path, variable)  # type: ignore[arg-type]
            if one.domain.is_function():
                continue
            drawn_value = drawn(trial, below, self._distribution(one))
            inner[path] = self._chosen(trial, below, drawn_value)
        return filled(value, inner)

    def _distribution(self, one: Dimension) -> BaseDistribution:
        from optuna.distributions import (
            CategoricalDistribution,
            FloatDistribution,
            IntDistribution,
        )

        domain, q = one.domain, one.step
        if isinstance(domain, Categorical):
            labels = self._labels[one.name] = Labels(domain)
            return CategoricalDistribution(labels.choices)
        if one.normal is not None or not isinstance(domain, Float | Integer):
            raise one.unsupported("Optuna", "Use tune.uniform over a range that is wide enough.")
        if one.is_log:
            one.warn_of_dropped_step("Optuna")
            q = None
        if isinstance(domain, Float):
            return FloatDistribution(domain.lower, domain.upper, step=q, log=one.is_log)
        if q is None or q == 1:
            return IntDistribution(domain.lower, domain.upper - 1, log=one.is_log)
        low, high = grid_index(domain.lower, q, True), grid_index(domain.upper, q, False)
        return IntDistribution(int(low * q), int(high * q), step=int(q))


class DistributionSpace:
    """Distributions of Optuna by name; nested dicts are nested in the configuration."""

    def __init__(self, space: Mapping[str, Any]) -> None:
        from optuna.distributions import BaseDistribution

        self._distributions: dict[str, Any] = flatten_dict(dict(space), prevent_delimiter=True)
        for name, value in self._distributions.items():
            if not isinstance(value, BaseDistribution):
                raise TypeError(
                    f"The space has {value!r} for {name!r}, which is no distribution of Optuna: "
                    "write optuna.distributions.FloatDistribution(0, 1) or the like. Constants "
                    "belong into Tuner(param_space=...)."
                )

    def distributions(self) -> dict[str, BaseDistribution] | None:
        """As given."""
        return self._distributions

    def config(self, trial: Trial) -> dict[str, Any]:
        """Return the values of a trial, nested like the space."""
        params = trial.params
        values = {
            name: params[name] if name in params else drawn(trial, name, distribution)
            for name, distribution in self._distributions.items()
        }
        config: dict[str, Any] = unflatten_dict(values)
        return config

    def params(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return values by name."""
        flat = {}
        for name, value in flatten_dict(dict(point)).items():
            if name in self._distributions:
                flat[name] = value
            else:
                logger.warning(
                    "The point %r has %r, which Optuna does not search; it is left out.%s",
                    dict(point),
                    name,
                    did_you_mean(name, self._distributions),
                )
        return flat


class DefineByRun:
    """A function that takes a trial, calls its ``suggest_`` methods, and may return constants."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def distributions(self) -> dict[str, BaseDistribution] | None:
        """None: each trial shows its own."""
        return None

    def config(self, trial: Trial) -> dict[str, Any]:
        """Call the function and return all that it has suggested, and what it returns on top.

        Raises:
            TypeError: it returns something else than None or a dict with text as keys.
        """
        recorder = _Recorder(trial)
        began = time.monotonic()
        returned = self._function(recorder)
        took_s = time.monotonic() - began
        if took_s > _SLOW_S:
            logger.warning(
                "The function that defines Optuna's space took %.1f s. It is called for every "
                "trial and must only suggest values; train in the trainable.",
                took_s,
            )
        if returned is None:
            return _nested(recorder.values)
        if not isinstance(returned, Mapping) or not all(isinstance(key, str) for key in returned):
            raise TypeError(
                "The function that defines Optuna's space must return None or a dict of "
                f"constants with text as keys, got {returned!r}. Values that it suggests are in "
                "the configuration by themselves."
            )
        return _nested({**recorder.values, **returned})

    def params(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return a point flattened: its names are known when the function has run."""
        flat: dict[str, Any] = flatten_dict(dict(point))
        return flat


class _Recorder:
    """A trial that remembers what was suggested."""

    def __init__(self, trial: Any) -> None:
        self._trial = trial
        self.values: dict[str, Any] = {}

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._trial, attribute)
        if not attribute.startswith("suggest_"):
            return value

        def suggest(*args: Any, **kwargs: Any) -> Any:
            suggested = value(*args, **kwargs)
            self.values[kwargs["name"] if "name" in kwargs else args[0]] = suggested
            return suggested

        return suggest


def drawn(trial: Any, name: str, distribution: Any) -> Any:
    """Have a trial suggest a value from a distribution; the same again when it has before."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    suggest = trial.suggest_int
    step = distribution.step
    if isinstance(distribution, FloatDistribution):
        suggest = trial.suggest_float
        if step is not None and math.isnan(step):
            step = None
    return suggest(name, distribution.low, distribution.high, step=step, log=distribution.log)


def _nested(values: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = unflatten_dict(values)
    return config
