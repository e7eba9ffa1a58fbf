"""Search with Nevergrad."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from milepost.tune.search.domains import Categorical, Float, Integer
from milepost.tune.search.flat_space import Dimension, FlatSpace, Labels
from milepost.tune.search.library import LibrarySearcher, checked_points, required
from milepost.tune.utils.dicts import unflatten_dict

__all__ = ["NevergradSearch"]


class NevergradSearch(LibrarySearcher):
    """Searches with an optimizer of Nevergrad. Mirrors Ray's class.

    The state of the search is the optimizer with its random generator, so a restored search
    proposes what an uninterrupted one would have.

    Args:
        optimizer: a class of optimizers (``nevergrad.optimizers.TwoPointsDE``), a configured one,
            or an optimizer object with its own parametrization; the default is ``OnePlusOne``.
        optimizer_kwargs: arguments of the optimizer, such as ``budget``; not with an object.
        space: what to search, unless ``param_space`` tells: a ``nevergrad.p.Parameter``, or a dict
            of Tune's search variables. With an optimizer object: None, or a list with names of
            its parameters.
        metric: the metric to optimise.
        mode: ``"min"`` or ``"max"``. With ``space`` or an optimizer object, metric and mode must be
            given here.
        points_to_evaluate: configurations to try first, in order.

    Raises:
        ImportError: Nevergrad is not installed.
        ValueError: it is no optimizer, or arguments contradict each other.
    """

    library: ClassVar[str] = "Nevergrad"
    takes_any_point: ClassVar[bool] = False
    fills_points: ClassVar[bool] = False

    def __init__(
        self,
        optimizer: Any = None,
        optimizer_kwargs: Mapping[str, Any] | None = None,
        space: Any = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        ng = required("nevergrad", "nevergrad", "NevergradSearch")
        super().__init__(metric, mode)
        base = ng.optimizers.base
        self._points = checked_points(points_to_evaluate)
        self._kwargs = dict(optimizer_kwargs or {})
        self._names: list[str] | None = None
        self._space: FlatSpace | None = None
        self._labels: dict[str, Labels] = {}
        self._live: dict[str, Any] = {}
        self._factory = ng.optimizers.OnePlusOne if optimizer is None else optimizer
        self._optimizer: Any = None
        if isinstance(optimizer, base.Optimizer):
            if optimizer_kwargs:
                raise ValueError("optimizer_kwargs have no effect on an optimizer that is made.")
            if space is not None and not isinstance(space, list):
                raise ValueError(
                    "An optimizer object has its own space: leave space out, or give a list of "
                    f"the names of its parameters, got {space!r}."
                )
            self._names, self._optimizer = space, optimizer
            self._begin([optimizer])
            return
        is_class = isinstance(self._factory, type) and issubclass(self._factory, base.Optimizer)
        if not is_class and not isinstance(self._factory, base.ConfiguredOptimizer):
            raise ValueError(
                "optimizer must be a class of nevergrad.optimizers, a configured one or an "
                f"optimizer object, got {optimizer!r}."
            )
        if space is not None and not isinstance(space, Mapping | ng.p.Parameter):
            raise ValueError(
                "The space of NevergradSearch must be a nevergrad.p.Parameter or a dict of "
                f"search variables, got {space!r}."
            )
        self._begin([space] if isinstance(space, ng.p.Parameter) else space)

    def _set_up(self, space: Any) -> None:
        import nevergrad as ng

        if isinstance(space, FlatSpace):
            self._space = space
            parameter = ng.p.Dict(
                **{name: self._parameter(one) for name, one in space.dimensions.items()}
            )
        elif isinstance(space, list):
            (parameter,) = space
        else:
            raise ValueError(f"The space of NevergradSearch has no search variables: {space!r}.")
        if self._optimizer is None:
            self._optimizer = self._factory(parameter, **self._kwargs)
        # The generator is made now, because one that is saved before would draw anew.
        _ = self._optimizer.parametrization.random_state
        self._points = [self._flat_point(point) for point in self._points]

    def _flat_point(self, point: Mapping[str, Any]) -> dict[str, Any]:
        if self._space is None:
            self._require_possible(point)
            return dict(point)
        flat = self._space.flat(point)
        for name, labels in self._labels.items():
            flat[name] = labels.choice(name, flat[name])
        return flat

    def _require_possible(self, point: Mapping[str, Any]) -> None:
        """Make sure that a point fits the optimizer's own parametrization."""
        missing = [name for name in self._names or () if name not in point]
        if missing:
            raise ValueError(f"The point to evaluate {point!r} has no value for {missing[0]!r}.")
        try:
            self._optimizer.parametrization.spawn_child(new_value=self._value(point))
        except Exception as error:
            raise ValueError(
                f"The point to evaluate {point!r} does not fit the parametrization of Nevergrad: "
                f"{error}"
            ) from error

    def _parameter(self, one: Dimension) -> Any:
        import nevergrad as ng

        domain = one.domain
        if isinstance(domain, Categorical):
            one.require_flat_choice("Nevergrad")
            labels = self._labels[one.name] = Labels(domain)
            return ng.p.Choice(labels.choices)
        if one.normal is not None:
            scalar = ng.p.Scalar(init=one.normal.mean)
            return scalar.set_mutation(sigma=one.normal.sd)
        if not isinstance(domain, Float | Integer):
            raise one.unsupported("Nevergrad")
        one.warn_of_dropped_step("Nevergrad")
        is_whole = isinstance(domain, Integer)
        low, high = domain.lower, domain.upper - is_whole
        if low == high:
            return ng.p.Choice([low])
        if one.is_log:
            parameter = ng.p.Log(lower=low, upper=high)
        else:
            parameter = ng.p.Scalar(lower=low, upper=high)
        return parameter.set_integer_casting() if is_whole else parameter

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the configuration of a new trial.

        Raises:
            RuntimeError: space, metric or mode are missing.
        """
        self._require_ready()
        if self._points:
            self._propose(self._points.pop(0))
        candidate = self._live[trial_id] = self._optimizer.ask()
        if self._space is not None:
            values = candidate.value
            for name, labels in self._labels.items():
                values = {**values, name: labels.value(values[name])}
            domains = self._space.dimensions
            return self._space.suggestion({n: domains[n].domain.cast(v) for n, v in values.items()})
        flat = candidate.kwargs
        if not flat:
            flat = candidate.value
            if self._names:
                flat = dict(zip(self._names, candidate.args[0], strict=True))
        config: dict[str, Any] = unflatten_dict(dict(flat))
        return config

    def _propose(self, point: Mapping[str, Any]) -> None:
        """Have the optimizer ask for a point next."""
        value = self._value(point)
        if isinstance(value, tuple):
            self._optimizer.suggest(*value[0], **value[1])
        else:
            self._optimizer.suggest(value)

    def _value(self, point: Mapping[str, Any]) -> Any:
        """A point as the parametrization has it: of an ``Instrumentation`` its two arguments."""
        import nevergrad as ng

        values = [point[name] for name in self._names or ()]
        if isinstance(self._optimizer.parametrization, ng.p.Instrumentation):
            return ((values,), {}) if self._names else ((), dict(point))
        return values if self._names else dict(point)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the value; failures and values that are not finite teach nothing.

        Raises:
            KeyError: the result lacks the metric.
        """
        candidate = self._live.pop(trial_id, None)
        if candidate is None or error or not result:
            return
        loss = float(self._measured(result)) * (-1.0 if self._mode == "max" else 1.0)
        if math.isfinite(loss):
            self._optimizer.tell(candidate, loss)
