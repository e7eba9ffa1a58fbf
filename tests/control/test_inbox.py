"""What the keeper says, on its way to the machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from milepost.control import events, inbox
from milepost.errors import StorageError
from milepost.keeper import protocol as keeper


def test_no_commit_fails_because_the_whole_experiment_is_gone(tmp_path: Path) -> None:
    """Restoring it commits what was captured, so it must not be recorded as lost."""
    dispatched: list[Any] = []
    home = tmp_path / "exp" / ".milepost"
    home.mkdir(parents=True)
    run: Any = SimpleNamespace(
        plan=SimpleNamespace(experiment=SimpleNamespace(home=str(home))),
        now=lambda: 1.0,
        dispatch=dispatched.append,
    )
    failed = keeper.CommitFailed(
        uuid="u", trial_id="t", attempt=0, index=3, error="it cannot be written", disk_full=False
    )
    inbox.from_keeper(run, failed)
    assert [type(event) for event in dispatched] == [events.CommitFailed]
    shutil.rmtree(tmp_path / "exp")
    with pytest.raises(StorageError, match="it cannot be written; the run cannot go on") as raised:
        inbox.from_keeper(run, failed)
    assert raised.value.filename == str(home)
    assert len(dispatched) == 1
