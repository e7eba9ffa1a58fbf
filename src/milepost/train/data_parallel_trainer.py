"""Trains with several workers that all run the same function."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from milepost.api import checks
from milepost.api.spelling import spelled
from milepost.api.training.backend import Backend, BackendConfig
from milepost.api.training.conversion import for_training
from milepost.api.training.data_config import DataConfig
from milepost.api.training.run_config import RunConfig
from milepost.api.training.scaling_config import ScalingConfig
from milepost.api.training.validation_config import ValidationConfig
from milepost.train.data.given import given_datasets
from milepost.train.loop import takes_config

if TYPE_CHECKING:
    from milepost.checkpoint.handle import Checkpoint
    from milepost.train.loop import TrainLoop
    from milepost.train.result import Result

T = TypeVar("T", bound="DataParallelTrainer")


class DataParallelTrainer:
    """Trains with several workers that all run the same function. Mirrors Ray's class.

    The workers start together, and report together. When one fails, all start again from the
    latest committed checkpoint, as often as ``FailureConfig`` says. A run with the name of an
    earlier one goes on from its latest checkpoint.

    Args:
        train_loop_per_worker: the training function, with one argument for the config or without.
            One whose only argument has a default is given the config too, if there is one.
        train_loop_config: what it is given; default an empty dict.
        backend_config: what surrounds it in each worker.
        scaling_config: how many workers there are, and what each holds; default one CPU worker.
            With ``num_workers=0`` the function runs in this process, for debugging; all else is
            the same.
        run_config: where results go, what is kept, and who is told; see :class:`RunConfig`.
        datasets: what :func:`~milepost.train.get_dataset_shard` hands to workers, by name: lists
            and other sequences, dicts of columns, numpy arrays, DataFrames, Tables of pyarrow,
            datasets of PyTorch, what else can be iterated over again and again, and functions
            without arguments that return one of these in each worker. They travel to all workers
            whole; arrays are in memory once.
        dataset_config: which datasets are split; default all.
        resume_from_checkpoint: what to start from, in a run that has no checkpoint yet.
        metadata: raises.
        validation_config: how checkpoints are validated that are reported with ``validation``, in
            a process beside the workers.

    Raises:
        TypeError: an argument has the wrong type or is misspelt, or the function or a dataset
            cannot be pickled.
        ValueError: the function takes several arguments, an option is out of range, or a dataset
            has columns of different lengths.
        StorageError: results cannot be written to the storage path.
        DeprecationWarning: ``metadata`` is given.
    """

    #: What the argument for :class:`BackendConfig` is called.
    _backend_argument: ClassVar[str] = "backend_config"

    @spelled
    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        train_loop_config: dict[str, Any] | None = None,
        backend_config: BackendConfig | None = None,
        scaling_config: ScalingConfig | None = None,
        run_config: RunConfig | None = None,
        datasets: dict[str, Any] | None = None,
        dataset_config: DataConfig | None = None,
        resume_from_checkpoint: Checkpoint | None = None,
        metadata: dict[str, Any] | None = None,
        validation_config: ValidationConfig | None = None,
    ) -> None:
        from milepost.checkpoint.handle import Checkpoint
        from milepost.tune import naming, place
        from milepost.tune.pickling import require_picklable

        owner = type(self).__name__
        if metadata is not None:
            raise DeprecationWarning(
                f"{owner}(metadata=...) has no effect any more. Put it into the checkpoint: "
                "checkpoint.set_metadata(...)."
            )
        function = checks.function(owner, "train_loop_per_worker", train_loop_per_worker)
        if train_loop_config is not None and not isinstance(train_loop_config, dict):
            raise TypeError(
                f"{owner}.train_loop_config must be a dict, got {train_loop_config!r} "
                f"({type(train_loop_config).__name__})."
            )
        takes_config(function, train_loop_config)
        if resume_from_checkpoint is not None:
            checks.instance_of(Checkpoint)(owner, "resume_from_checkpoint", resume_from_checkpoint)
        require_picklable(
            [function, train_loop_config],
            "The training function or its config",
            "Create such objects (locks, open files, connections) inside the function, or pass "
            "what they are made from through the config.",
        )
        if validation_config is not None:
            checks.instance_of(ValidationConfig)(owner, "validation_config", validation_config)
            require_picklable(
                [validation_config.fn, validation_config.task_config],
                "The validation function or its arguments",
                "Create such objects (locks, open files, connections) inside the function.",
            )
        self.validation_config = validation_config
        self.train_loop_per_worker = function
        self.train_loop_config = train_loop_config
        self.backend_config = _backend(owner, backend_config)
        self.scaling_config = checks.instance_of(ScalingConfig, ScalingConfig)(
            owner, "scaling_config", scaling_config
        )
        if self.scaling_config.max_workers:
            self.scaling_config.as_placement_group_factory()  # says what cannot be met
        self.dataset_config = checks.instance_of(DataConfig, DataConfig)(
            owner, "dataset_config", dataset_config
        )
        self.datasets = given_datasets(owner, datasets, self.dataset_config)
        self.resume_from_checkpoint = resume_from_checkpoint
        self.run_config = for_training(run_config)
        if self.run_config.storage_filesystem is not None:
            from milepost.storage.filesystem import require_local

            require_local(self.run_config.storage_filesystem)
        self.storage_path = place.check_storage(str(self.run_config.storage_path))
        self.is_named = bool(self.run_config.name)
        self.name = self.run_config.name or naming.automatic_name(naming.trainable_name(function))

    def fit(self) -> Result:
        """Train, and return what came of it.

        A second ``fit()`` goes on from the latest checkpoint of the first.

        Raises:
            WorkerGroupError: workers failed, more often than is allowed; it has their exceptions
                by rank. Every committed checkpoint is kept.
            ControllerError: what is around the workers failed: a callback, storage, their start.
            KeyboardInterrupt: after Ctrl-C, when workers have saved and everything is closed.
            SystemExit: with status 143, after SIGTERM, likewise.
        """
        from milepost.train.fit import fit

        return fit(self)

    def as_trainable(self) -> TrainLoop:
        """Return what a ``Tuner`` runs: each trial is a training run of all workers.

        ``Tuner(trainer, param_space={"train_loop_config": {...}})`` puts values over those of
        the trainer's ``train_loop_config``; a ``"scaling_config"`` in it over its scaling.
        """
        from milepost.train.loop import TrainLoop

        return TrainLoop(
            type(self).__name__,
            self.train_loop_per_worker,
            self.train_loop_config,
            self.backend_config,
            (self.run_config.worker_runtime_env or {}).get("env_vars") or {},
            self.scaling_config,
            self.run_config.checkpoint_config,
            self.datasets,
            self.dataset_config if self.datasets else None,
            self.validation_config,
        )

    @classmethod
    def restore(
        cls: type[T],
        path: str | os.PathLike[str],
        train_loop_per_worker: Callable[..., Any] | None = None,
        train_loop_config: dict[str, Any] | None = None,
        **given: Any,
    ) -> T:
        """Return a trainer whose :meth:`fit` goes on with a run. Mirrors Ray's method.

        It goes on from the latest committed checkpoint, also if the run had ended. The directory
        may have been moved. What is given here counts in place of what the run was started with.

        Args:
            path: the run's directory: a path or a ``file://`` URI.
            train_loop_per_worker: the training function; None for the recorded one.
            train_loop_config: what it is given; None for the recorded one.
            **given: other arguments of the trainer. If the run had datasets, give them again: its
                record has only their names.

        Raises:
            ExperimentNotFoundError: there is no run (also a ``FileNotFoundError``).
            ValueError: what is there is no training run, or something of it could not be recorded
                and must be given; or a dataset that the run had is missing.
            TypeError: an argument is misspelt, or has the wrong type.
        """
        from milepost.train.restoring import arguments

        whole = arguments(
            path, train_loop_per_worker, train_loop_config, cls._backend_argument, given
        )
        return cls(**whole)

    @classmethod
    def can_restore(
        cls, path: str | os.PathLike[str], storage_filesystem: Any | None = None
    ) -> bool:
        """Whether :meth:`restore` finds a training run at a path; if not, the log says why.

        Args:
            path: the run's directory: a path or a ``file://`` URI.
            storage_filesystem: the file system it is on.
        """
        from milepost.train.restoring import can_restore

        return can_restore(path, storage_filesystem)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, storage_path={self.storage_path!r})"


def _backend(owner: str, config: BackendConfig | None) -> BackendConfig:
    made: BackendConfig = checks.instance_of(BackendConfig, BackendConfig)(
        owner, "backend_config", config
    )
    if made.backend_cls is not Backend:
        raise ValueError(
            f"{owner}.backend_config sets workers up with {made.backend_cls.__name__}, from the "
            "driver's process. Milepost does that in each worker: override "
            "BackendConfig.train_func_context instead."
        )
    return made
