"""The public names of training: they are all there, and they are light."""

from __future__ import annotations

import doctest
import subprocess
import sys
from importlib import import_module

import pytest

from milepost import train, tune

_PUBLIC = """
BackendConfig Checkpoint CheckpointConfig CheckpointConsistencyMode CheckpointUploadMode
ControllerError DataConfig DataParallelTrainer FailureConfig LoggingConfig NCCLHangError
PreemptionError PreemptionInfo ReportedCheckpoint ReportedCheckpointStatus Result RunConfig
ScalingConfig SyncConfig TRAIN_DATASET_KEY TrainContext TrainRunContext TrainingFailedError
UserCallback ValidationConfig ValidationFn ValidationTaskConfig WorkerGroupError
get_all_reported_checkpoints get_checkpoint get_context get_dataset_shard get_preemption_info
report
"""
NAMES = _PUBLIC.split()

PATHS = {
    "milepost.train": " ".join(NAMES),
    "milepost.train.backend": "Backend BackendConfig",
    "milepost.train.collective": "barrier broadcast_from_rank_zero",
    "milepost.train.constants": "TRAIN_DATASET_KEY",
    "milepost.train.error": "SessionMisuseError TrainingFailedError",
    "milepost.train.context": "TrainContext get_context",
    "milepost.train.data_parallel_trainer": "DataParallelTrainer",
    "milepost.train.torch": "TorchCheckpoint TorchConfig TorchTrainer accelerate backward "
    "enable_reproducibility get_device get_devices load_state prepare_data_loader prepare_model "
    "prepare_optimizer save_state save_state_async",
    "milepost.train.torch.config": "TorchConfig",
    "milepost.train.xgboost": "XGBoostCheckpoint XGBoostConfig XGBoostTrainer",
    "milepost.train.lightgbm": "LightGBMCheckpoint LightGBMConfig LightGBMTrainer "
    "RayTrainReportCallback get_network_params normalize_pandas_for_lightgbm",
    "milepost.train.lightning": "",
    "milepost.train.huggingface.transformers": "prepare_trainer",
    "milepost.train.tensorflow": "TensorflowCheckpoint TensorflowConfig TensorflowTrainer",
    "milepost.train.tensorflow.keras": "",
    "milepost.train.v2.jax": "JaxConfig JaxTrainer",
    "milepost.train.v2.api.data_parallel_trainer": "DataParallelTrainer",
}

_HEAVY = """
numpy rich psutil tensorboardX torch xgboost lightgbm lightning transformers tensorflow jax
pandas pyarrow ray msgspec cloudpickle xxhash asyncio
multiprocessing subprocess milepost.control milepost.journal milepost.keeper milepost.engine
milepost.display milepost.worker milepost.tune
"""


@pytest.mark.parametrize(("module", "names"), PATHS.items())
def test_import_paths(module: str, names: str) -> None:
    """Paths that scripts import from exist, with the names that they import."""
    imported = import_module(module)
    for name in names.split():
        assert getattr(imported, name) is getattr(imported, name)
        assert name in dir(imported)


def test_all_is_what_there_is() -> None:
    """What is listed is public, and nothing else."""
    assert sorted(train.__all__) == sorted(NAMES)


def test_names_shared_with_tuning_are_the_same() -> None:
    """What means the same in both is one class; the others derive from tuning's."""
    for name in ("Checkpoint", "CheckpointConfig", "SyncConfig"):
        assert getattr(train, name) is getattr(tune, name)
    for name in ("RunConfig", "FailureConfig"):
        assert issubclass(getattr(train, name), getattr(tune, name))


def test_configs_load_nothing_heavy() -> None:
    """Using every config and error loads small modules only, and no PyTorch."""
    code = (
        "import sys\n"
        "from milepost import train\n"
        f"for name in {NAMES}:\n"
        "    if name not in ('Checkpoint', 'Result'):\n"
        "        getattr(train, name)\n"
        "train.error.RayTrainError, train.backend.Backend\n"
        "train.torch.TorchConfig(backend='nccl'), train.jax.JaxConfig(use_gpu=True)\n"
        "train.xgboost.XGBoostConfig(), train.lightgbm.LightGBMConfig()\n"
        "train.tensorflow.TensorflowConfig(), train.lightning, train.huggingface.transformers\n"
        "train.RunConfig(name='x', stop={'loss': 1}), train.ScalingConfig(num_workers=(1, 2))\n"
        f"print([m for m in {_HEAVY.split()} if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=50
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "module",
    [
        "api.training.callback",
        "api.training.data_config",
        "api.training.failure_config",
        "api.training.logging_config",
        "api.training.preemption",
        "api.training.run_config",
        "api.training.scaling_config",
        "train.jax.config",
        "train.lightgbm.config",
        "train.tensorflow.config",
        "train.torch.config",
        "train.xgboost.config",
        "api.training.validation_config",
    ],
)
def test_examples_in_the_documentation_of_classes(module: str) -> None:
    """Each runs and shows what it says."""
    ran = doctest.testmod(import_module(f"milepost.{module}"))
    assert ran.attempted > 0
    assert ran.failed == 0


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ScalingConfg", "Did you mean 'ScalingConfig'"),
        ("horovod", "use TorchTrainer"),
        ("nothing_like_it", "has no attribute 'nothing_like_it'"),
    ],
)
def test_names_that_are_not_there(name: str, says: str) -> None:
    """A misspelt name suggests the right one, one of a later version says so."""
    with pytest.raises(AttributeError, match=says):
        getattr(train, name)
