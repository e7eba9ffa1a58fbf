"""The functions that scripts use around tuning."""

from __future__ import annotations

import logging
import re
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from milepost import tune
from milepost.tune import utils
from milepost.tune.utils import gpu, timing
from milepost.tune.utils.log import Verbosity


def test_date_str() -> None:
    """Dates have the form that names of experiments have."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", utils.date_str())


def test_verbosity() -> None:
    """Levels are numbers, so configs take them."""
    assert [int(level) for level in Verbosity] == [0, 1, 2, 3]
    assert tune.RunConfig(verbose=Verbosity.V2_TRIAL_NORM).verbose == 2


@pytest.mark.parametrize(
    ("options", "took", "warns"),
    [
        ({}, 0.4, False),
        ({}, 0.6, True),
        ({"threshold": 1.0}, 0.6, False),
        ({"disable": True}, 0.6, False),
    ],
)
def test_warn_if_slow(
    options: dict[str, Any],
    took: float,
    warns: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A block that takes longer than the bound is named in the log."""
    times = iter([100.0, 100.0 + took])
    monkeypatch.setattr(timing, "time", SimpleNamespace(monotonic=lambda: next(times)))
    with (
        caplog.at_level(logging.WARNING, logger="milepost.tune"),
        utils.warn_if_slow("saving", **options) as block,
    ):
        pass
    assert block.too_slow is warns
    assert ("saving took 0.600 s" in caplog.text) is warns


def test_warn_if_slow_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound and the message can be chosen."""
    monkeypatch.setenv("TUNE_WARN_THRESHOLD_S", "7")
    assert utils.warn_if_slow("x", message="{name}!").threshold == 7.0


def test_diagnose_serialization(capsys: pytest.CaptureFixture[str]) -> None:
    """The variables that cannot be pickled are found and printed."""
    lock, number = threading.Lock(), 3

    def fails(config: Any) -> Any:
        return lock, number

    def works(config: Any) -> Any:
        return number

    assert utils.diagnose_serialization(works) is True
    assert utils.diagnose_serialization(fails) == {"lock"}
    assert "closure lock" in capsys.readouterr().out


# --- GPUs ---------------------------------------------------------------------------------------


class Gpus:
    """Stands for GPUtil: memory in use, look by look."""

    def __init__(self, *used: float) -> None:
        self.used = list(used)

    def getGPUs(self) -> list[Any]:
        used = self.used.pop(0) if len(self.used) > 1 else self.used[0]
        return [
            SimpleNamespace(id=0, uuid="GPU-a", memoryUtil=used),
            SimpleNamespace(id=1, uuid="GPU-b", memoryUtil=0.0),
        ]


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were waited, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr(gpu, "time", SimpleNamespace(sleep=waited.append))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return waited


def test_wait_for_gpu(monkeypatch: pytest.MonkeyPatch, slept: list[float]) -> None:
    """It looks until the GPU is free."""
    monkeypatch.setitem(sys.modules, "GPUtil", Gpus(0.9, 0.5, 0.0))
    assert utils.wait_for_gpu(delay_s=3)
    assert slept == [3, 3]


@pytest.mark.parametrize("gpu_id", [1, "1", "GPU-b"])
def test_wait_for_one_gpu(gpu_id: Any, monkeypatch: pytest.MonkeyPatch, slept: list[float]) -> None:
    """A GPU is found by number and by UUID."""
    monkeypatch.setitem(sys.modules, "GPUtil", Gpus(0.9))
    assert utils.wait_for_gpu(gpu_id)
    assert slept == []


def test_wait_for_the_visible_gpu(monkeypatch: pytest.MonkeyPatch, slept: list[float]) -> None:
    """Without a number, it is the first one that this process may use."""
    monkeypatch.setitem(sys.modules, "GPUtil", Gpus(0.9))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert utils.wait_for_gpu()
    assert slept == []


def test_waiting_for_a_gpu_in_vain(monkeypatch: pytest.MonkeyPatch, slept: list[float]) -> None:
    """It gives up, and it knows which GPUs there are."""
    monkeypatch.setitem(sys.modules, "GPUtil", Gpus(0.9))
    with pytest.raises(RuntimeError, match="GPU 0 was still in use after 4 looks"):
        utils.wait_for_gpu(retry=4)
    assert len(slept) == 4
    with pytest.raises(ValueError, match=r"no GPU with id 9; there are \[0, 1\]"):
        utils.wait_for_gpu(9)
    with pytest.raises(ValueError, match=r"got 1\.5"):
        utils.wait_for_gpu(1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="target_util"):
        utils.wait_for_gpu(gpu_memory_limit=0.1)


def test_waiting_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the command that installs it."""
    monkeypatch.setitem(sys.modules, "GPUtil", None)
    with pytest.raises(ImportError, match="pip install GPUtil"):
        utils.wait_for_gpu()


def test_util_monitor() -> None:
    """It samples until it is stopped, and its thread is gone then."""
    monitor = utils.UtilMonitor(delay=0.001)
    data: dict[str, Any] = {}
    while not data:
        data = monitor.get_data()
    assert set(data["perf"]) == {"cpu_util_percent", "ram_util_percent"}
    assert 0 < data["perf"]["ram_util_percent"] <= 100
    monitor.stop()
    monitor.stop()
    assert not monitor.is_alive()
    idle = utils.UtilMonitor(start=False)
    assert idle.get_data() == {}
    idle.stop()


# --- saving and restoring -----------------------------------------------------------------------


class Counts(tune.Trainable):
    """Counts, and saves its count."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin at zero."""
        self.count = 0

    def step(self) -> dict[str, Any]:
        """Count on."""
        self.count += 1
        return {"count": self.count}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Save the count."""
        return {"count": self.count}

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Go on from a count."""
        self.count = checkpoint["count"]


class Forgets(Counts):
    """Says another iteration than the one it is at."""

    def step(self) -> dict[str, Any]:
        """Always the first one."""
        return {"training_iteration": 1}


@pytest.fixture
def _scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.mark.usefixtures("_scratch")
def test_validate_save_restore() -> None:
    """A class that saves what it needs passes; one that does not is told how it failed."""
    assert utils.validate_save_restore(Counts)
    with pytest.raises(RuntimeError, match="Forgets was saved after iteration 3"):
        utils.validate_save_restore(Forgets)
    with pytest.raises(TypeError, match="takes a Trainable class"):
        utils.validate_save_restore(dict)  # type: ignore[arg-type]
