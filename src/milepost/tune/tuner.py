"""The entry point of tuning."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from milepost import __version__
from milepost.api.run_config import RunConfig
from milepost.api.spelling import spelled
from milepost.api.tune_config import TuneConfig
from milepost.tune.experiment.experiment import Experiment
from milepost.tune.naming import automatic_name
from milepost.tune.result_grid import ResultGrid

_NOT_YET = (
    "going on with an earlier run is not in this version ({version}) of Milepost. What it needs is "
    "recorded already; results of an earlier run are opened with "
    "ResultGrid(ExperimentAnalysis(<experiment directory>))."
)


class _TunerType(type):
    """Explains what is not there yet when it is looked up on the class."""

    def __getattr__(cls, name: str) -> NoReturn:
        if name in ("restore", "can_restore"):
            raise AttributeError(f"Tuner.{name}: {_NOT_YET.format(version=__version__)}")
        raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")


class Tuner(metaclass=_TunerType):
    """Runs a trainable over a search space. Mirrors ``ray.tune.Tuner``.

    Everything that can be checked is checked by the constructor, so that errors name the line that
    caused them, and no trial starts with a run that cannot work. Nothing is left on disk but the
    storage path itself, if it did not exist.

    Args:
        trainable: a function (or partial, or any callable) that takes a ``config``, a
            ``Trainable`` class, or the name of a registered one.
        param_space: the search space: a dict of values, ``tune.uniform(...)`` and the like,
            ``tune.grid_search([...])``, nested as the trainable expects it. Default empty.
        tune_config: how the space is searched; see :class:`TuneConfig`.
        run_config: where results go, when to stop, what to keep; see :class:`RunConfig`.

    Raises:
        TuneError: there is no trainable, or no registered one of that name.
        TypeError: the trainable cannot be pickled (the message names the captured variables that
            are to blame), or an argument has the wrong type.
        ValueError: ``param_space`` is no dict, the function does not take one argument, or an
            option cannot take effect with this trainable.
        StorageError: results cannot be written to the storage path.
        ExperimentExistsError: another experiment has the name in ``run_config``.

    Example:
        >>> from milepost import tune
        >>> def train(config):
        ...     for step in range(3):
        ...         tune.report({"loss": (config["x"] - 2) ** 2 / (step + 1)})
        >>> tuner = tune.Tuner(train, param_space={"x": tune.grid_search([1, 2, 3])})
        >>> grid = tuner.fit()                                            # doctest: +SKIP
        >>> grid.get_best_result("loss", "min").config["x"]               # doctest: +SKIP
        2
    """

    @spelled
    def __init__(
        self,
        trainable: str | Callable[..., Any] | type | None = None,
        *,
        param_space: Mapping[str, Any] | None = None,
        tune_config: TuneConfig | None = None,
        run_config: RunConfig | None = None,
    ) -> None:
        tune_config = _config("tune_config", tune_config, TuneConfig)
        run_config = _config("run_config", run_config, RunConfig)
        self._experiment = Experiment.of(
            trainable, param_space, tune_config, dataclasses.replace(run_config)
        )
        self._fits = 0
        self._results: ResultGrid | None = None

    def fit(self) -> ResultGrid:
        """Run all trials and return their results.

        Failed trials do not raise: their errors are in the grid. Ctrl-C ends the run in order and
        returns what there is; a second one ends it at once.

        A second ``fit()`` is a new experiment. It gets a new name if the first one was automatic;
        an explicit name can be used once.

        Raises:
            TuneError: a searcher, scheduler, stopper or callback failed, or a result lacks
                ``TuneConfig.metric``; finished work is intact.
            ExperimentExistsError: the name has been taken since the Tuner was made.
            StorageError: results cannot be written.
            Exception: with ``fail_fast="raise"``, the error of the first trial that failed; it is
                an instance of the type that user code raised.
        """
        from milepost.tune.launch import launch

        if self._fits and not self._experiment.is_named:
            self._experiment.name = automatic_name(self._experiment.target.name)
        self._fits += 1
        self._results = ResultGrid(launch(self._experiment, save_at_end=True).analysis)
        return self._results

    def get_results(self) -> ResultGrid:
        """Return the results of the last :meth:`fit`.

        Raises:
            RuntimeError: there was none.
        """
        if self._results is None:
            raise RuntimeError(
                "There are no results yet: call Tuner.fit() first. Results of an earlier run are "
                "opened with ResultGrid(ExperimentAnalysis(<experiment directory>))."
            )
        return self._results

    def __repr__(self) -> str:
        return (
            f"Tuner({self._experiment.target.name!r}, name={self._experiment.name!r}, "
            f"storage_path={self._experiment.storage_path!r})"
        )


def _config(name: str, value: Any, kind: type) -> Any:
    """Return a config object of the right kind; a new one for None."""
    if value is None:
        return kind()
    if not isinstance(value, kind):
        hint = f": write {kind.__name__}(**...)" if isinstance(value, Mapping) else ""
        raise TypeError(
            f"{name} must be a {kind.__name__}, got {value!r} ({type(value).__name__}){hint}."
        )
    return value
