"""``report``, ``get_checkpoint`` and ``get_context``, inside a trial and outside."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from milepost.api.resources import PlacementGroupFactory
from milepost.worker import session
from milepost.worker.context import TuneContext, get_context
from milepost.worker.protocol import dump
from milepost.worker.session import get_checkpoint, in_session, report

GETTERS = (
    "get_experiment_name",
    "get_trial_name",
    "get_trial_id",
    "get_trial_resources",
    "get_trial_dir",
    "get_storage",
)
GROUP = {
    "get_world_size": 1,
    "get_world_rank": 0,
    "get_local_rank": 0,
    "get_local_world_size": 0,
    "get_node_rank": 0,
}


def test_outside_a_trial(caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    """Everything returns None, with one warning per function."""
    monkeypatch.setattr(session, "_warned", set())
    assert not in_session()
    for _ in range(2):
        assert report({"a": 1}) is None  # type: ignore[func-returns-value]
        assert get_checkpoint() is None
        for name in GETTERS:
            assert getattr(get_context(), name)() is None
        assert get_context().get_preemption_info() is None
        assert get_context().should_checkpoint() is False
    assert len(caplog.records) == 3 + len(GETTERS)
    assert all("outside a trial" in record.message for record in caplog.records)


def test_group_getters_are_deprecated() -> None:
    """Ranks have no meaning for a tuning trial: a warning, and Ray's values."""
    for name, outside in GROUP.items():
        with pytest.warns(DeprecationWarning, match=name):
            assert getattr(get_context(), name)() == outside
    with pytest.raises(DeprecationWarning):
        get_context().get_metadata()
    assert "outside a trial" in repr(get_context())


def test_context_is_one_object() -> None:
    """get_context() returns the same object always."""
    assert get_context() is get_context()
    assert isinstance(get_context(), TuneContext)


def test_inside_a_trial(drive: Any, tmp_path: Path) -> None:
    """A trial knows its names, resources, directory and storage."""

    def train(config: dict[str, Any]) -> dict[str, Any]:
        context = get_context()
        storage = context.get_storage()
        assert storage is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            group = [getattr(context, name)() for name in config["group"]]
        return {
            "names": [getattr(context, name)() for name in config["getters"]],
            "resources": context.get_trial_resources(),
            "group": group,
            "storage": [
                storage.storage_fs_path,
                storage.experiment_dir_name,
                storage.experiment_fs_path,
                storage.trial_fs_path,
                storage.trial_dir_name,
                storage.trial_working_directory,
                storage.checkpoint_fs_path,
                storage.current_checkpoint_index,
                storage.storage_filesystem.type_name,
            ],
            "repr": repr(context),
        }

    resources = PlacementGroupFactory([{"CPU": 2}])
    config = {"getters": (*GETTERS[:3], "get_trial_dir"), "group": tuple(GROUP)}
    row = drive(train).run(config, resources=dump(resources), first_index=4).rows[0]
    trial = str(tmp_path / "t1")
    assert row["names"] == [tmp_path.name, "train_t1", "t1", trial]
    assert row["resources"] == resources
    assert row["group"] == [None] * len(GROUP)
    assert row["storage"] == [
        *(str(tmp_path.parent), tmp_path.name, str(tmp_path), trial, "t1", trial),
        *(f"{trial}/checkpoint_000003", 3, "local"),
    ]
    assert "trial t1" in row["repr"]


def test_import_is_light() -> None:
    """What user code imports for a report loads nothing heavy."""
    code = (
        "import sys; from milepost.worker import session, context, trainable; "
        "heavy = {'numpy', 'rich', 'psutil', 'torch', 'pandas', 'pyarrow', 'msgspec', "
        "'cloudpickle', 'xxhash', 'subprocess'}; print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert result.stdout == "[]\n"
