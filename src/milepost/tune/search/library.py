"""What searchers have in common that leave the thinking to another library."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from milepost.api.fields import DEFAULT_METRIC
from milepost.api.searcher import Searcher
from milepost.api.spelling import did_you_mean
from milepost.tune.compatible import require_used_space, says_nothing_else
from milepost.tune.search.flat_space import FlatSpace
from milepost.tune.search.points import require_choices, require_inside, require_values
from milepost.tune.search.space import variables

if TYPE_CHECKING:
    from milepost.tune.compatible import Setting

logger = logging.getLogger("milepost.tune")


class MissingLibraryError(ImportError, AssertionError):
    """The library of a searcher is not installed; Ray raises ``AssertionError`` for it."""


def required(module: str, extra: str, who: str) -> Any:
    """Import the library of a searcher.

    Args:
        module: what to import.
        extra: the extra of this package that installs it.
        who: the searcher, for the message.

    Raises:
        MissingLibraryError: it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise  # it is there, and something that it needs is not
        raise MissingLibraryError(
            f"{who} needs {module}: run `pip install 'milepost[{extra}]'`.", name=module
        ) from None


class LibrarySearcher(Searcher):
    """A searcher over another library; subclasses make its optimizer in :meth:`_set_up`.

    The space is given once: to the searcher, in the library's own terms or in Tune's, or to the
    run as ``param_space``.

    Args:
        metric: the metric to optimise.
        mode: ``"min"`` or ``"max"``.

    Raises:
        ValueError: metric and mode do not fit together.
    """

    #: How the library is called in messages.
    library: ClassVar[str] = ""
    #: Whether the library takes points to evaluate with values that a variable would not have.
    takes_any_point: ClassVar[bool] = True
    #: Whether what a point leaves out is drawn.
    fills_points: ClassVar[bool] = True

    def __init__(self, metric: Any = None, mode: Any = None) -> None:
        super().__init__(metric, mode)
        self._is_set_up = False
        self._points: list[dict[str, Any]] = []

    def _set_up(self, space: Any) -> None:
        """Make the optimizer.

        Args:
            space: a :class:`FlatSpace`, or whatever the constructor was given in the library's
                own terms.
        """
        raise NotImplementedError

    def _begin(self, space: Any) -> None:
        """Set up, if there is a space."""
        if space is None or (not callable(space) and not len(space)):
            return
        if is_tune_space(space):
            logger.warning(
                "%s was given a space of Tune's search variables; it is converted to %s's. Give "
                "it as param_space instead, and the searcher takes it from there.",
                type(self).__name__,
                self.library,
            )
            space = self._converted(space, keeps_constants=True)
            self._check_points(space)
        if not self._metric and self._mode:
            self._metric = DEFAULT_METRIC
        self._set_up(space)
        self._is_set_up = True

    def check_run(self, setting: Setting) -> None:
        """Refuse a run without metric, mode or a space that can be searched.

        Raises:
            ValueError: one of them is missing, there are two spaces, or a point to evaluate is
                outside of the space.
        """
        if not says_nothing_else(self):
            return
        metric, mode = self._metric, self._mode
        if self._is_set_up:
            require_used_space(self, setting.space)
        else:
            space = self._converted(setting.space, keeps_constants=False)
            if not space.dimensions:
                raise ValueError(self._lacks_space())
            self._check_points(space)
            metric, mode = setting.metric or metric, setting.mode or mode
            if not metric and mode:
                metric = DEFAULT_METRIC
        if not metric or not mode:
            raise ValueError(self._lacks(metric, mode))

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Take over the run's metric, mode and space, unless there is a space already.

        Raises:
            ValueError: the library cannot search a variable of the space, or take a point.
        """
        if self._is_set_up:
            return False
        space = self._converted(config, keeps_constants=False)
        self._check_points(space)
        if metric:
            self._metric = metric
        if mode:
            self._mode = mode
        if space.dimensions:
            if not self._metric and self._mode:
                self._metric = DEFAULT_METRIC
            self._set_up(space)
            self._is_set_up = True
        return True

    def _check_points(self, space: FlatSpace) -> None:
        require_choices(space, self._points)
        if not self.fills_points:
            require_values(space, self._points)
        if not self.takes_any_point:
            require_inside(space, self._points, self.library)

    def _converted(self, space: Mapping[str, Any], *, keeps_constants: bool) -> FlatSpace:
        return FlatSpace(space, self.library, keeps_constants=keeps_constants)

    def _require_ready(self) -> None:
        """Make sure that there is a space, a metric and a mode.

        Raises:
            RuntimeError: one of them is missing.
        """
        if not self._is_set_up:
            raise RuntimeError(self._lacks_space())
        if not self._metric or not self._mode:
            raise RuntimeError(self._lacks(self._metric, self._mode))

    def _lacks_space(self) -> str:
        return (
            f"{type(self).__name__} has no search space: give Tuner(param_space=...) with search "
            "variables such as tune.uniform(0, 1), or give the searcher a space."
        )

    def _lacks(self, metric: Any, mode: Any) -> str:
        return (
            f"{type(self).__name__} has metric={metric!r} and mode={mode!r}, and needs both. Give "
            "them to the searcher when it has a space of its own, else to TuneConfig."
        )

    def _measured(self, result: Mapping[str, Any]) -> Any:
        """The metric of a result.

        Raises:
            KeyError: the result lacks it.
        """
        if self._metric not in result:
            raise KeyError(
                f"The result has no {self._metric!r}, the metric of {type(self).__name__}."
                + did_you_mean(self._metric, map(str, result))
            )
        return result[self._metric]

    def save(self, checkpoint_path: str) -> None:
        """Write everything that the searcher knows to a file: it goes on exactly from there."""
        import cloudpickle

        with open(checkpoint_path, "wb") as file:
            cloudpickle.dump(vars(self), file)

    def restore(self, checkpoint_path: str) -> None:
        """Take back what :meth:`save` wrote to a file."""
        import cloudpickle

        with open(checkpoint_path, "rb") as file:
            vars(self).update(cloudpickle.load(file))


def is_tune_space(space: Any) -> bool:
    """Whether a space has search variables of Tune anywhere."""
    return isinstance(space, Mapping) and next(variables(space), None) is not None


def checked_points(points: Any) -> list[dict[str, Any]]:
    """Return points to evaluate as a list of their own.

    Raises:
        TypeError: they are no list of dicts.
    """
    if points is None:
        return []
    if not isinstance(points, Sequence) or isinstance(points, str):
        raise TypeError(f"points_to_evaluate must be a list of dicts, got {points!r}.")
    for point in points:
        if not isinstance(point, Mapping):
            raise TypeError(f"Each point to evaluate must be a dict, got {point!r}.")
    return [dict(point) for point in points]


def checked_rewards(rewards: Any, points: Sequence[Any]) -> list[Any] | None:
    """Return the values of points that were evaluated already; None when there are none.

    Raises:
        TypeError: they are no list.
        ValueError: there are more or fewer of them than points.
    """
    if rewards is None:
        return None
    if not isinstance(rewards, Sequence) or isinstance(rewards, str):
        raise TypeError(f"evaluated_rewards must be a list of numbers, got {rewards!r}.")
    if rewards and len(rewards) != len(points):
        raise ValueError(
            f"There are {len(rewards)} evaluated_rewards for {len(points)} points_to_evaluate; "
            "give one for each."
        )
    return list(rewards) or None
