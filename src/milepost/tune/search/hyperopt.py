"""Search with HyperOpt."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from milepost.api.checks import integer, require_numbers, seed
from milepost.tune.search.domains import Categorical, Float, Integer
from milepost.tune.search.flat_space import Dimension, FlatSpace, position
from milepost.tune.search.library import LibrarySearcher, checked_points, required
from milepost.tune.search.points import warn_of_outliers
from milepost.tune.search.samplers import grid_index
from milepost.tune.search.space import Path, filled, variables

__all__ = ["HyperOptSearch"]

# How often a first point is drawn until the nested choices in it are those that were asked for.
_DRAWS = 1000


class HyperOptSearch(LibrarySearcher):
    """Searches with HyperOpt's tree of Parzen estimators. Mirrors Ray's class.

    The state of the search is all its trials and its random generator, so a restored search
    proposes what an uninterrupted one would have.

    Args:
        space: what to search, unless ``param_space`` tells: a dict of HyperOpt expressions, or of
            Tune's search variables. Values of a choice may be spaces themselves.
        metric: the metric to optimise.
        mode: ``"min"`` or ``"max"``. With ``space``, metric and mode must be given here.
        points_to_evaluate: configurations to try first, in order; values of choices are given as
            they are; what a point leaves out is drawn.
        n_initial_points: how many trials are drawn at random before the estimators are used.
        random_state_seed: seed of the search.
        gamma: the share of trials that count as good, above 0 and at most 1.

    Raises:
        ImportError: HyperOpt is not installed.
        ValueError: metric and mode do not fit together, a variable cannot be searched, a point
            has a value that is not among those to choose from, or an argument is out of range.
        TypeError: an argument is no number.
        RuntimeError: the space has no search variables.
    """

    library: ClassVar[str] = "HyperOpt"

    def __init__(
        self,
        space: Mapping[str, Any] | None = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        n_initial_points: int = 20,
        random_state_seed: int | None = None,
        gamma: float = 0.25,
    ) -> None:
        required("hyperopt", "hyperopt", "HyperOptSearch")
        super().__init__(metric, mode)
        import numpy as np

        self._points = checked_points(points_to_evaluate)
        owner = type(self).__name__
        require_numbers(owner, gamma=gamma)
        if not 0 < gamma <= 1:
            raise ValueError(f"{owner}(gamma=...) must be above 0 and at most 1, got {gamma!r}.")
        self._n_initial_points = integer(at_least=0)(owner, "n_initial_points", n_initial_points)
        self._gamma = gamma
        begin = seed(owner, "random_state_seed", random_state_seed)
        self._rng = np.random.default_rng(int.from_bytes(os.urandom(8)) if begin is None else begin)
        self._docs: dict[str, dict[str, Any]] = {}
        self._begin(space)

    def _set_up(self, space: Any) -> None:
        from hyperopt import Trials
        from hyperopt.base import Domain

        self._expressions: _TuneExpressions | _NativeExpressions = (
            _TuneExpressions(space) if isinstance(space, FlatSpace) else _NativeExpressions(space)
        )
        if isinstance(space, FlatSpace):
            warn_of_outliers(space, self._points)
        self._points = [self._expressions.labelled(point) for point in self._points]
        self._domain = Domain(dict, self._expressions.expression)
        if not self._domain.params:
            raise RuntimeError(
                "The space of HyperOptSearch has no search variables, only constants. Give "
                "constants in Tuner(param_space=...), and leave the searcher out."
            )
        self._trials = Trials()

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the configuration of a new trial.

        Raises:
            RuntimeError: space, metric or mode are missing.
        """
        self._require_ready()
        from hyperopt import tpe

        if self._points:
            doc = self._preset(self._points.pop(0))
        else:
            (doc,) = tpe.suggest(
                self._new_ids(),
                self._domain,
                self._trials,
                self._seed(),
                n_startup_jobs=self._n_initial_points,
                gamma=self._gamma,
                verbose=False,
            )
        self._trials.insert_trial_docs([doc])
        self._trials.refresh()
        self._docs[trial_id] = self._trials._dynamic_trials[-1]
        values = {label: found[0] for label, found in doc["misc"]["vals"].items() if len(found)}
        return self._expressions.config(values)

    def _new_ids(self) -> list[int]:
        ids: list[int] = self._trials.new_trial_ids(1)
        self._trials.refresh()
        return ids

    def _seed(self) -> int:
        return int(self._rng.integers(2**31 - 1))

    def _preset(self, point: dict[str, Any]) -> dict[str, Any]:
        """A trial with the values of a point; the rest is drawn at random."""
        from hyperopt import rand

        ids = self._new_ids()
        for _ in range(_DRAWS):
            (doc,) = rand.suggest(ids, self._domain, self._trials, self._seed())
            vals, idxs = doc["misc"]["vals"], doc["misc"]["idxs"]
            branching = self._expressions.branching & point.keys()
            if all(len(vals[label]) and vals[label][0] == point[label] for label in branching):
                break
        for label, value in point.items():
            vals[label], idxs[label] = [value], list(ids)
        drawn: dict[str, Any] = doc
        return drawn

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the outcome; a failure, and a value that is no number, teach nothing.

        Raises:
            KeyError: the result lacks the metric.
        """
        from hyperopt.base import JOB_STATE_DONE, JOB_STATE_ERROR, STATUS_FAIL, STATUS_OK

        doc = self._docs.pop(trial_id, None)
        if doc is None:
            return
        if error or not result:
            doc["state"] = JOB_STATE_ERROR
            doc["misc"]["error"] = ("TuneError", "the trial failed or never ran")
        else:
            self._require_ready()
            loss = float(self._measured(result)) * (-1.0 if self._mode == "max" else 1.0)
            doc["state"] = JOB_STATE_DONE
            good = math.isfinite(loss)
            doc["result"] = {"loss": loss, "status": STATUS_OK} if good else {"status": STATUS_FAIL}
        self._trials.refresh()


class _TuneExpressions:
    """Search variables of Tune as HyperOpt's expressions."""

    def __init__(self, space: FlatSpace) -> None:
        self._space = space
        #: Labels of choices between values that have variables of their own.
        self.branching: set[str] = set()
        self.expression = {name: self._node(one) for name, one in space.dimensions.items()}

    def config(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values by label as a configuration."""
        return self._space.suggestion(
            {name: self._value(one, values) for name, one in self._space.dimensions.items()}
        )

    def labelled(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return a point by label, choices by their position."""
        labelled: dict[str, Any] = {}
        for name, value in self._space.flat(point).items():
            domain = self._space.dimensions[name].domain
            labelled[name] = (
                _position(name, domain.categories, value)
                if isinstance(domain, Categorical)
                else value
            )
        return labelled

    def _value(self, one: Dimension, values: Mapping[str, Any]) -> Any:
        value = values[one.name]
        if not isinstance(one.domain, Categorical):
            return one.domain.cast(value)
        at = int(value)
        chosen = one.domain[at]
        inner = {path: self._value(below, values) for path, below in _below(one, at).items()}
        return filled(chosen, inner)

    def _node(self, one: Dimension) -> Any:
        from hyperopt import hp

        name, domain = one.name, one.domain
        if isinstance(domain, Categorical):
            options: list[Any] = []
            for at in range(len(domain)):
                below = _below(one, at)
                self.branching |= {name} if below else set()
                nodes = {member.name: self._node(member) for member in below.values()}
                options.append(nodes or at)
            return hp.choice(name, options)
        normal, q = one.normal, one.step
        if normal is not None:
            if q is None:
                return hp.normal(name, normal.mean, normal.sd)
            return hp.qnormal(name, normal.mean, normal.sd, q)
        if isinstance(domain, Float):
            return self._float(one, domain, q)
        if not isinstance(domain, Integer):
            raise one.unsupported("HyperOpt")
        low, high = domain.lower, domain.upper - 1
        if q is not None and q != 1:
            low, high = (grid_index(domain.lower, q, True), grid_index(domain.upper, q, False))
            low, high = int(low * q), int(high * q)
        if one.is_log:
            return hp.qloguniform(name, math.log(low), math.log(high), q or 1)
        if q is not None and q != 1:
            return hp.quniform(name, low, high, q)
        return hp.uniformint(name, low, high)

    def _float(self, one: Dimension, domain: Float, q: Any) -> Any:
        from hyperopt import hp

        low, high = domain.lower, domain.upper
        if one.is_log:
            low, high = math.log(low), math.log(high)
            if q is None:
                return hp.loguniform(one.name, low, high)
            return hp.qloguniform(one.name, low, high, q)
        if q is None:
            return hp.uniform(one.name, low, high)
        return hp.quniform(one.name, low, high, q)


class _NativeExpressions:
    """A dict of HyperOpt's own expressions."""

    branching: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, space: Mapping[str, Any]) -> None:
        self.expression = dict(space)

    def config(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Evaluate the expressions."""
        from hyperopt import space_eval

        config: dict[str, Any] = space_eval(self.expression, dict(values))
        return config

    def labelled(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return a point by label, choices by their position."""
        return dict(_labelled(point, self.expression, ""))


def _labelled(point: Any, space: Any, where: str) -> Any:
    from hyperopt.pyll.base import Apply, dfs

    if not isinstance(space, Apply):
        for key in point if isinstance(point, Mapping) and isinstance(space, Mapping) else ():
            if key in space:
                yield from _labelled(point[key], space[key], f"{where}/{key}" if where else key)
        return
    labels = [node.pos_args[0].obj for node in dfs(space) if node.name == "hyperopt_param"]
    if not labels:
        return
    if space.name != "switch":
        yield labels[-1], point
        return
    categories = [node.obj for node in space.pos_args[1:] if node.name == "literal"]
    choice = next(n for n in dfs(space.pos_args[0]) if n.name == "hyperopt_param")
    yield choice.pos_args[0].obj, _position(where, categories, point)


def _position(name: str, categories: Sequence[Any], value: Any) -> int:
    at = position(categories, value)
    if at is None:
        raise ValueError(
            f"{value!r} is no value of {name!r}; it must be one of {list(categories)!r}."
        )
    return at


def _below(one: Dimension, at: int) -> dict[Path, Dimension]:
    """The variables inside of one value of a choice, by their path in it."""
    chosen = one.domain[at]  # type: ignore[index]
    return {
        path: Dimension("/".join((one.name, str(at), *map(str, path))), path, variable)  # type: ignore[arg-type]
        for path, variable in variables(chosen)
        if not variable.is_function()  # type: ignore[union-attr]
    }
