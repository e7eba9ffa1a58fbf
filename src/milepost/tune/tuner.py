"""The entry point of tuning."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from milepost.api.resume_config import ResumeConfig
from milepost.api.run_config import RunConfig
from milepost.api.spelling import spelled
from milepost.api.training.conversion import for_tuning
from milepost.api.tune_config import TuneConfig
from milepost.errors import JournalError, StorageError
from milepost.tune.analysis import ExperimentAnalysis
from milepost.tune.experiment.experiment import Experiment
from milepost.tune.naming import automatic_name
from milepost.tune.result_grid import ResultGrid

log = logging.getLogger("milepost.tune")

if TYPE_CHECKING:
    from milepost.tune.restoring import Restoration

    class_only = classmethod
else:

    class class_only(classmethod):  # noqa: N801 - used like classmethod
        """A class method that objects of the class do not have."""

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            if instance is not None:
                kind = type(instance).__name__
                raise AttributeError(
                    f"{kind}.{self.__name__} makes a new {kind}: call it on the class, "
                    f"{kind}.{self.__name__}(path, trainable)."
                )
            return super().__get__(instance, owner)


class Tuner:
    """Runs a trainable over a search space. Mirrors ``ray.tune.Tuner``.

    Everything that can be checked is checked by the constructor, so that errors name the line that
    caused them, and no trial starts with a run that cannot work. Nothing is left on disk but the
    storage path itself, if it did not exist.

    Args:
        trainable: a function (or partial, or any callable) that takes a ``config``, a
            ``Trainable`` class, the name of a registered one, or a trainer of
            :mod:`milepost.train`, each trial then being a training run of all its workers.
        param_space: the search space: a dict of values, ``tune.uniform(...)`` and the like,
            ``tune.grid_search([...])``, nested as the trainable expects it. Default empty.
        tune_config: how the space is searched; see :class:`TuneConfig`.
        run_config: where results go, when to stop, what to keep; see :class:`RunConfig`. The
            default is that of a trainer, if it is one.

    Raises:
        TuneError: there is no trainable, or no registered one of that name.
        TypeError: the trainable cannot be pickled (the message names the captured variables that
            are to blame), or an argument has the wrong type.
        ValueError: ``param_space`` is no dict, the function does not take one argument, an option
            cannot take effect with this trainable, a scheduler or searcher lacks a metric, or has
            two, or does not go with the trainable, the space or the other one.
        KeyError: a point to evaluate at random search names something that is not in the space.
        ImportError: the library of a searcher that is given by its name is not installed.
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
        if run_config is None:  # a trainer has one
            run_config = getattr(trainable, "run_config", None)
        run_config = for_tuning(_config("run_config", run_config, RunConfig))
        self._experiment = Experiment.of(trainable, param_space, tune_config, copy.copy(run_config))
        self._restoration: Restoration | None = None
        self._fits = 0
        self._results: ResultGrid | None = None

    @class_only
    @spelled
    def restore(
        cls,  # noqa: N805 - it is a class method
        path: str | os.PathLike[str],
        trainable: str | Callable[..., Any] | type,
        resume_unfinished: bool = True,
        resume_errored: bool = False,
        restart_errored: bool = False,
        param_space: Mapping[str, Any] | None = None,
        storage_filesystem: Any | None = None,
        _resume_config: ResumeConfig | None = None,
        *,
        tune_config: TuneConfig | None = None,
        run_config: RunConfig | None = None,
    ) -> Tuner:
        """Return a Tuner whose :meth:`fit` goes on with an experiment. Mirrors Ray's method.

        Finished trials are never run again. Unfinished ones go on from their latest committed
        checkpoint, those that had not started yet start, and the search goes on where it was.
        Nothing is changed before :meth:`fit`; results can be looked at without it.

        Everything but the trainable comes from the experiment's directory, which may have been
        moved, renamed or copied. What is given here counts instead.

        Args:
            path: the experiment's directory: a path, also a relative one, or a ``file://`` URI.
            trainable: the function or class, or its registered name. It must have the name of the
                one that the experiment was started with; that its code has changed is said, and
                recorded.
            resume_unfinished: whether unfinished trials go on; otherwise they end as they are.
            resume_errored: whether failed trials go on from their latest checkpoint.
            restart_errored: whether failed trials start again, as new trials of the same configs;
                ``resume_errored`` wins over it.
            param_space: the search space. What differs from the recorded one is shown and counts
                for new trials; trials that exist keep their configs. Values that could not be
                stored are taken from it.
            storage_filesystem: the file system it is on; only the local one is supported.
            _resume_config: says all that the three flags say, and replaces them.
            tune_config: the fields that are set in it, be it to their defaults, replace the
                recorded ones: ``TuneConfig(num_samples=50)``.
            run_config: likewise: ``RunConfig(stop={"training_iteration": 200})``. Configs inside
                it are taken field by field as well.

        Raises:
            ExperimentNotFoundError: there is no experiment (also a ``FileNotFoundError``).
            ValueError: the trainable has another name, a value that could not be stored is
                missing (each is named), or ``run_config`` names another place.
            JournalError: a newer version wrote the experiment's journal.
            TuneError, TypeError: as for :class:`Tuner`.

        Example:
            >>> tuner = tune.Tuner.restore("~/milepost_results/digits", train)  # doctest: +SKIP
            >>> grid = tuner.fit()                                              # doctest: +SKIP
        """
        from milepost.tune.restoring import Restoration, directory_of, resume_config

        restoration = Restoration(
            directory_of(path, storage_filesystem),
            trainable,
            _config("_resume_config", _resume_config, ResumeConfig)
            if _resume_config is not None
            else resume_config(resume_unfinished, resume_errored, restart_errored),
            param_space=param_space,
            tune_config=_config("tune_config", tune_config, TuneConfig),
            run_config=for_tuning(_config("run_config", run_config, RunConfig)),
        )
        restoration.warn_if_in_use()
        tuner = cls.__new__(cls)
        tuner._experiment = restoration.experiment
        tuner._restoration = restoration
        tuner._fits = 0
        tuner._results = None
        return tuner

    @classmethod
    def can_restore(
        cls, path: str | os.PathLike[str], storage_filesystem: Any | None = None
    ) -> bool:
        """Whether :meth:`restore` finds an experiment at a path; if not, the log says why.

        Unlike in Ray, a Tuner that was made and never fitted leaves nothing to restore.

        Args:
            path: the experiment's directory: a path, also a relative one, or a ``file://`` URI.
            storage_filesystem: the file system it is on.
        """
        from milepost.tune.recorded import Recorded
        from milepost.tune.restoring import directory_of

        try:
            Recorded(directory_of(path, storage_filesystem))
        except (StorageError, JournalError, ValueError) as error:
            log.info("Tuner.can_restore(%r) is False: %s", os.fspath(path), error)
            return False
        return True

    def fit(self) -> ResultGrid:
        """Run all trials and return their results.

        Failed trials do not raise: their errors are in the grid. Ctrl-C has trials save and stop,
        and returns what there is; a second one ends everything at once. SIGUSR1 is like the first,
        with a deadline of ``MILEPOST_GRACE_S`` seconds.

        A second ``fit()`` is a new experiment. It gets a new name if the first one was automatic;
        an explicit name can be used once. On a restored Tuner it goes on with the same experiment
        once more, with what is left to do.

        Raises:
            TuneError: a searcher, scheduler, stopper or callback failed, or a result lacks
                ``TuneConfig.metric``; finished work is intact.
            ExperimentExistsError: the name has been taken since the Tuner was made.
            LeaseLostError: another driver is running this experiment; the message says which.
            StorageError: results cannot be written.
            ValueError: ``MILEPOST_GRACE_S`` is no number of seconds.
            KeyboardInterrupt: after a second Ctrl-C.
            SystemExit: with status 143, after SIGTERM, when everything is closed.
            Exception: with ``fail_fast="raise"``, the error of the first trial that failed; it is
                an instance of the type that user code raised.
        """
        from milepost.tune.launch import launch

        if self._restoration is not None:
            self._restoration = restoration = self._restoration.for_a_run()
            self._experiment = restoration.experiment
            run = launch(
                restoration.experiment,
                save_at_end=restoration.save_at_end,
                restoration=restoration,
            )
            self._results = ResultGrid(run.analysis)
            return self._results
        if self._fits and not self._experiment.is_named:
            self._experiment.name = automatic_name(self._experiment.target.name)
        self._fits += 1
        self._results = ResultGrid(launch(self._experiment, save_at_end=True).analysis)
        return self._results

    def get_results(self) -> ResultGrid:
        """Return the results of the last :meth:`fit`, or those of the experiment restored.

        Raises:
            RuntimeError: there are none yet.
        """
        if self._results is None and self._restoration is not None:
            tune_config = self._experiment.tune_config
            return ResultGrid(
                ExperimentAnalysis(
                    self._experiment.path,
                    default_metric=tune_config.metric,
                    default_mode=tune_config.mode,
                )
            )
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
