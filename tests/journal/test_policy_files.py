"""``pbt_global.txt`` and ``pbt_policy_*.txt`` show the records, whatever happened to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from milepost.journal import records as rec
from milepost.journal.files.policy import PolicyFiles
from milepost.journal.image import RunImage, apply


def exploited(trial: str, donor: str, number: int, **fields: Any) -> rec.Exploited:
    return rec.Exploited(
        **{
            "at": float(number),
            "trial": trial,
            "donor": donor,
            "index": 0,
            "id": "x-0",
            "digest": "d",
            "iteration": number,
            "config": msgspec.Raw(b'{"lr":%d}' % number),
            "tag": f"{number}@perturbed",
            "first_index": 3,
            "generation": 1,
            "number": number,
            "policy": f'["{trial}", "{donor}", {number}]',
            **fields,
        }
    )


HISTORY = [exploited("b", "a", 1), exploited("c", "b", 2), exploited("a", "c", 3),
           exploited("b", "d", 4)]  # fmt: skip
FILES = {
    "pbt_global.txt": [1, 2, 3, 4],
    "pbt_policy_b.txt": [1, 4],  # "d" never went on from anybody
    "pbt_policy_c.txt": [1, 2],
    "pbt_policy_a.txt": [1, 2, 3],
}


def shown(directory: Path) -> dict[str, list[int]]:
    lines = {record.policy: record.number for record in HISTORY}
    return {
        path.name: [lines[line] for line in path.read_text().splitlines()]
        for path in directory.glob("pbt_*")
    }


def test_as_it_happens(tmp_path: Path) -> None:
    """A trial's file begins with what the donor's has; all are listed in one."""
    files = PolicyFiles(str(tmp_path))
    for record in HISTORY:
        files.add(record)
    assert shown(tmp_path) == FILES


@pytest.mark.parametrize("known", range(5))
@pytest.mark.parametrize("damage", ["", "torn", "surplus", "gone"])
def test_after_a_crash(known: int, damage: str, tmp_path: Path) -> None:
    """Each line is there once: missing ones are added, torn and unknown ones go."""
    before = PolicyFiles(str(tmp_path))
    for record in HISTORY[:known]:
        before.add(record)
    path = tmp_path / "pbt_global.txt"
    if damage == "torn" and known:
        path.write_text(path.read_text()[:-3])
    elif damage == "surplus":
        before.add(exploited("z", "a", 9))
        (tmp_path / "pbt_policy_z.txt").unlink()
    elif damage == "gone":
        for found in tmp_path.glob("pbt_*"):
            found.unlink()
    after = PolicyFiles(str(tmp_path))
    after.adopt(HISTORY[:3])
    after.add(HISTORY[3])
    assert shown(tmp_path) == FILES


def test_nothing_to_show(tmp_path: Path) -> None:
    """Without lines there are no files."""
    files = PolicyFiles(str(tmp_path))
    files.adopt([])
    files.add(exploited("b", "a", 1, policy=""))
    assert not list(tmp_path.iterdir())


def test_the_image_keeps_it_all(make: Any) -> None:
    """Through a snapshot: the first config, how trials came from others, what is still needed."""
    state = RunImage()
    created = [make.created(trial, lr=0) for trial in ("a", "b")]
    history = [exploited("b", "a", 1), exploited("b", "a", 2, first_index=5, generation=2)]
    for seq, record in enumerate([*created, *history], 1):
        apply(state, seq, record)
    state = msgspec.json.decode(msgspec.json.encode(state), type=RunImage)
    trial = state.trials["b"]
    assert msgspec.json.decode(trial.first_config) == {"lr": 0}
    assert msgspec.json.decode(trial.config) == {"lr": 2}
    assert (trial.tag, trial.status, trial.next_index) == ("2@perturbed", "PENDING", 5)
    assert [record.number for record in state.exploited] == [1, 2]
    assert trial.fork is not None
    assert trial.fork.number == 2
    own = rec.Committed(at=9.0, trial="b", attempt=0, index=4, iteration=1, nbytes=1, digest="d")
    apply(state, 9, own)
    assert trial.fork is not None, "that was captured before"
    apply(state, 10, msgspec.structs.replace(own, index=5))
    assert trial.fork is None
