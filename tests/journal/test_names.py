"""Names of checkpoints in the journal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from milepost.errors import JournalCorruptError
from milepost.journal import records as rec
from milepost.journal import replay
from milepost.journal.experiment import Experiment


def committed(index: int, dir_name: Any = msgspec.UNSET) -> rec.Committed:
    """A record of a commit."""
    return rec.Committed(
        at=4.0,
        trial="t1",
        attempt=0,
        index=index,
        iteration=1,
        nbytes=1,
        digest="d",
        dir_name=dir_name,
    )


def test_they_are_replayed(experiment: Experiment, open_journal: Any, make: Any) -> None:
    """Only names of their own are written; a checkpoint that is not known has the usual one."""
    journal = open_journal()
    for record in (make.created(), make.launched(), committed(0), committed(1, "best")):
        journal.append(record)
    journal.close("interrupted")
    (text,) = [path.read_text() for path in Path(experiment.path).rglob("00000001.jsonl")]
    assert text.count("dir_name") == 1
    trial = replay.image(experiment.path).trials["t1"]
    names = [trial.checkpoint_directory(index) for index in range(3)]
    assert names == ["checkpoint_000000", "best", "checkpoint_000002"]
    packed = msgspec.json.encode(trial)
    assert msgspec.json.decode(packed, type=type(trial)).committed == trial.committed


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ""])
def test_names_that_lead_out(
    experiment: Experiment, open_journal: Any, make: Any, name: str
) -> None:
    """A record with one is refused, whoever wrote it."""
    journal = open_journal()
    for record in (make.created(), make.launched(), committed(0, name)):
        journal.append(record)
    journal.close("interrupted")
    with pytest.raises(JournalCorruptError, match=r"whole but not understood.*dir_name"):
        replay.image(experiment.path)
