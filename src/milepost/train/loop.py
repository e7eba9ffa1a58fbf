"""What each worker of a training run does: it calls the training function of the user."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from milepost.api.nested import merge_dicts
from milepost.api.training.scaling_config import ScalingConfig
from milepost.train.context import TrainContext, entered
from milepost.train.group_size import largest_group

if TYPE_CHECKING:
    from milepost.api.checkpoint_config import CheckpointConfig
    from milepost.api.resources import PlacementGroupFactory
    from milepost.api.training.backend import BackendConfig
    from milepost.api.training.data_config import DataConfig
    from milepost.api.training.validation_config import ValidationConfig
    from milepost.control.group import Group
    from milepost.worker.function_runner import Returned
    from milepost.worker.protocol import RunTrial


class TrainLoop:
    """A training function with all that it needs; it is sent to every worker.

    Args:
        name: begins the names of trials.
        function: takes the config, or nothing.
        config: what it is given; None for an empty dict, if it takes anything.
        backend: sets up what surrounds it.
        environment: variables that are set before it is called.
        scaling: how many workers there are, and what each holds.
        keeping: which checkpoints are kept.
        datasets: what workers read, by name.
        dataset_config: how datasets are handed out; None if there are none.
        validation: how checkpoints are validated; None if they are not.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        config: dict[str, Any] | None,
        backend: BackendConfig,
        environment: Mapping[str, str],
        scaling: ScalingConfig,
        keeping: CheckpointConfig | None = None,
        datasets: Mapping[str, Any] | None = None,
        dataset_config: DataConfig | None = None,
        validation: ValidationConfig | None = None,
    ) -> None:
        self._name = name
        self._function = function
        self._config = config
        self._backend = backend
        self._environment = dict(environment)
        self._scaling = scaling
        self._keeping = keeping
        self._datasets = dict(datasets or {})
        self._dataset_config = dataset_config
        self._validation = validation
        self._task = None if validation is None else validation.task_config

    def _resources(self, config: dict[str, Any]) -> PlacementGroupFactory:
        """What the workers of a trial hold, by rank; its config may have a ``scaling_config``."""
        return largest_group(self._scaling_of(config))

    @property
    def _group(self) -> Group:
        """Each bundle that it asks for is for a worker."""
        from milepost.control.group import Group

        return Group(
            least=lambda config: max(1, self._scaling_of(config).min_workers),
            resize_every_s=self._scaling.elastic_resize_monitor_interval_s,
        )

    def _scaling_of(self, config: dict[str, Any]) -> ScalingConfig:
        given = config.get("scaling_config")
        if not given:
            return self._scaling
        names = [entry.name for entry in dataclasses.fields(self._scaling)]
        whole = {name: given.get(name, getattr(self._scaling, name)) for name in names}
        return ScalingConfig(**whole)

    def __getstate__(self) -> dict[str, Any]:
        """Workers ask for validations; the function for that is not theirs to load."""
        return {**self.__dict__, "_validation": None}

    def __call__(self, config: dict[str, Any]) -> Returned | None:
        """Run the function to its end; what rank 0 returns is handed on to the driver."""
        from milepost.worker import metrics, session
        from milepost.worker.function_runner import Returned
        from milepost.worker.protocol import dump

        trial = session.current_trial()
        assert trial is not None
        os.environ.update(self._environment)
        given = self._config
        if "train_loop_config" in config:
            given = merge_dicts(given or {}, config["train_loop_config"])
        arguments = (given or {},) if takes_config(self._function, given) else ()
        with entered(self._context(trial)), self._backend.train_func_context():
            value = self._function(*arguments)
        if trial.rank != 0 or value is None:
            return None
        metrics.refuse_tensors(value, "What the training function returned")
        try:
            return Returned(dump(value))
        except Exception as error:
            raise TypeError(
                f"the training function returned {type(value).__name__}, which cannot be sent to "
                f"the driver: {error}. Return plain values, and report a checkpoint of the rest."
            ) from error

    def _context(self, trial: RunTrial) -> TrainContext:
        from milepost.train.data.shards import Shards
        from milepost.worker.storage_context import StorageContext

        shards = None
        if self._dataset_config is not None:
            shards = Shards(self._datasets, self._dataset_config, trial.rank, trial.world_size)
        return TrainContext(
            experiment_name=trial.storage.experiment_name,
            world_rank=trial.rank,
            world_size=trial.world_size,
            local_rank=trial.rank,  # all on one machine
            local_world_size=trial.world_size,
            node_rank=0,
            storage=StorageContext(
                experiment_path=trial.storage.experiment_path, trial_path=trial.trial_dir
            ),
            _keeping=self._keeping,
            _shards=shards,
            _validation=self._task,
        )


def takes_config(function: Callable[..., Any], config: dict[str, Any] | None) -> bool:
    """Whether a training function is called with the config.

    It is if it requires an argument, and if there is a config and it can take one.

    Raises:
        ValueError: it requires more than one argument.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in callables have none
        return config is not None
    kinds = inspect.Parameter
    places = [
        each
        for each in signature.parameters.values()
        if each.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD, kinds.VAR_POSITIONAL)
    ]
    required = [
        each for each in places if each.default is kinds.empty and each.kind != kinds.VAR_POSITIONAL
    ]
    named = [
        each.name
        for each in signature.parameters.values()
        if each.kind == kinds.KEYWORD_ONLY and each.default is kinds.empty
    ]
    if len(required) > 1 or named:
        surplus = ", ".join([*(each.name for each in required[1:]), *named])
        name = getattr(function, "__name__", repr(function))
        raise ValueError(
            f"train_loop_per_worker is called with one argument, the config, or with none, but its "
            f"signature is {name}{signature}. Fix {surplus} with functools.partial, or put them "
            "into train_loop_config."
        )
    return bool(required) or (bool(places) and config is not None)
