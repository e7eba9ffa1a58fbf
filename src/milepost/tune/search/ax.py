"""Search with Ax."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from milepost.tune.search.domains import Categorical, Float, Integer
from milepost.tune.search.flat_space import Dimension, FlatSpace, Labels
from milepost.tune.search.library import LibrarySearcher, checked_points, required
from milepost.tune.utils.dicts import unflatten_list_dict

__all__ = ["AxSearch"]


class AxSearch(LibrarySearcher):
    """Searches with Ax, by default with a Gaussian process. Mirrors Ray's class.

    The state of the search is Ax's client with its experiment; its draws are Ax's own.

    Args:
        space: what to search, unless ``param_space`` tells: a list of Ax parameters (dicts), or a
            dict of Tune's search variables.
        metric: the metric to optimise.
        mode: ``"min"`` or ``"max"``. With ``space``, metric and mode must be given here.
        points_to_evaluate: configurations to try first, in order.
        parameter_constraints: such as ``"a + b <= 1"``.
        outcome_constraints: such as ``"latency <= 2"``; trials report those metrics as well.
        ax_client: a client whose experiment has been created; then nothing else but
            ``points_to_evaluate`` is given.
        **ax_kwargs: arguments of ``AxClient``.

    Raises:
        ImportError: Ax is not installed.
        ValueError: metric and mode do not fit together, a variable cannot be searched, or a client
            comes with other arguments.
    """

    library: ClassVar[str] = "Ax"
    takes_any_point: ClassVar[bool] = False
    fills_points: ClassVar[bool] = False

    def __init__(
        self,
        space: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        parameter_constraints: Sequence[str] | None = None,
        outcome_constraints: Sequence[str] | None = None,
        ax_client: Any = None,
        **ax_kwargs: Any,
    ) -> None:
        required("ax", "ax", "AxSearch")
        super().__init__(metric, mode)
        self._points = checked_points(points_to_evaluate)
        self._parameter_constraints = list(parameter_constraints or [])
        self._outcome_constraints = list(outcome_constraints or [])
        self._ax_kwargs = ax_kwargs
        self._client = ax_client
        self._flat: FlatSpace | None = None
        self._labels: dict[str, Labels] = {}
        self._live: dict[str, int] = {}
        if ax_client is not None:
            given = [space, metric, mode, parameter_constraints, outcome_constraints, ax_kwargs]
            if any(given):
                raise ValueError(
                    "A client that is given to AxSearch has a space, objective and constraints "
                    "already: leave out all other arguments but points_to_evaluate."
                )
            self._take_client()
        else:
            self._begin(space)

    def _take_client(self) -> None:
        objective = self._client.experiment.optimization_config.objective
        self._metric = objective.metric_names[0]
        self._mode = "min" if objective.minimize else "max"
        self._is_set_up = True

    def _set_up(self, space: Any) -> None:
        from ax.service.ax_client import AxClient, ObjectiveProperties

        if isinstance(space, FlatSpace):
            self._flat = space
            parameters = [self._parameter(one) for one in space.dimensions.values()]
        else:
            parameters = [dict(parameter) for parameter in space]
        self._client = AxClient(**self._ax_kwargs)
        self._client.create_experiment(
            parameters=parameters,
            objectives={self._metric: ObjectiveProperties(minimize=self._mode != "max")},
            parameter_constraints=self._parameter_constraints,
            outcome_constraints=self._outcome_constraints,
        )

    def _parameter(self, one: Dimension) -> dict[str, Any]:
        domain = one.domain
        if isinstance(domain, Categorical):
            one.require_flat_choice("Ax")
            labels = self._labels[one.name] = Labels(domain)
            choices = labels.choices
            if len({type(choice) for choice in choices}) > 1:  # Ax takes values of one type
                labels = self._labels[one.name] = Labels(domain, always=True)
                choices = labels.choices
            if len(choices) == 1:
                return {"name": one.name, "type": "fixed", "value": choices[0]}
            is_ordered = not isinstance(choices[0], str | bool)
            return {
                "name": one.name,
                "type": "choice",
                "values": choices,
                "is_ordered": is_ordered,
                "sort_values": is_ordered,
            }
        if one.normal is not None or not isinstance(domain, Float | Integer):
            raise one.unsupported("Ax", "It searches numbers between bounds.")
        one.warn_of_dropped_step("Ax")
        is_whole = isinstance(domain, Integer)
        low, high = domain.lower, domain.upper - is_whole
        if low == high:
            return {"name": one.name, "type": "fixed", "value": low}
        return {
            "name": one.name,
            "type": "range",
            "bounds": [low, high] if is_whole else [float(low), float(high)],
            "value_type": "int" if is_whole else "float",
            "log_scale": one.is_log,
        }

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the configuration of a new trial; None while Ax wants results first.

        Raises:
            RuntimeError: space, metric or mode are missing.
        """
        self._require_ready()
        from ax.exceptions.generation_strategy import MaxParallelismReachedException

        if self._points:
            parameters, index = self._client.attach_trial(self._parameters(self._points.pop(0)))
        else:
            try:
                parameters, index = self._client.get_next_trial()
            except MaxParallelismReachedException:
                return None
        self._live[trial_id] = index
        values = dict(parameters)
        if self._flat is None:
            config: dict[str, Any] = unflatten_list_dict(values)
            return config
        for name, labels in self._labels.items():
            values[name] = labels.value(values[name])
        return self._flat.suggestion({name: values[name] for name in self._flat.dimensions})

    def _parameters(self, point: Mapping[str, Any]) -> dict[str, Any]:
        if self._flat is None:
            return dict(point)
        values = self._flat.flat(point)
        return {
            name: self._labels[name].choice(name, value) if name in self._labels else value
            for name, value in values.items()
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the metrics; a trial without, or with one that is not finite, is abandoned.

        Raises:
            KeyError: the result lacks the metric.
        """
        index = self._live.pop(trial_id, None)
        if index is None:
            return
        if error or not result:
            self._client.abandon_trial(index, reason="the trial failed or never ran")
            return
        self._measured(result)
        wanted = self._client.experiment.metrics
        values = {name: result[name] for name in wanted if name in result}
        if not all(math.isfinite(float(value)) for value in values.values()):
            self._client.abandon_trial(index, reason=f"values that are not finite: {values}")
            return
        self._client.complete_trial(
            index, raw_data={n: (float(v), None) for n, v in values.items()}
        )
