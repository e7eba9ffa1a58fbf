"""The audit of killed and restored experiments sees what it is there to see."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chaos import audit, books
from chaos.ordeal import Ordeal


def one_trial(experiment: Path) -> Path:
    return next(experiment.glob("train_*_00003_*"))


def result_lines(change: Callable[[list[str]], list[str]]) -> Callable[[Ordeal], None]:
    """Damage that changes the lines of both result files."""

    def damage(ordeal: Ordeal) -> None:
        for name, head in (("result.json", 0), ("progress.csv", 1)):
            path = one_trial(ordeal.experiment) / name
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join([*lines[:head], *change(lines[head:])]))

    return damage


def remove_checkpoint(ordeal: Ordeal) -> None:
    shutil.rmtree(one_trial(ordeal.experiment) / "checkpoint_000001")


def flip(ordeal: Ordeal) -> None:
    path = one_trial(ordeal.experiment) / "checkpoint_000002" / "weights.bin"
    path.write_bytes(b"x" + path.read_bytes()[1:])


def remove_manifest(ordeal: Ordeal) -> None:
    (one_trial(ordeal.experiment) / "checkpoint_000002" / ".milepost.json").unlink()


def repeat(ordeal: Ordeal) -> None:
    entry = next(e for e in ordeal.entries() if e.what == "return")
    with open(ordeal.books / "lines", "a") as file:
        file.write(" ".join(map(str, entry._replace(what="begin"))) + "\n")


def run_again(ordeal: Ordeal) -> None:
    """A restored run that computed something although everything had ended."""
    ordeal.phases.append(ordeal.phases[-1].__class__(**{**vars(ordeal.phases[-1]), "first": 0}))


def leave(name: str) -> Callable[[Ordeal], None]:
    return lambda ordeal: (one_trial(ordeal.experiment) / name).mkdir()


def told(**changed: Any) -> Callable[[Ordeal], None]:
    """What the driver said about its results was something else."""

    def damage(ordeal: Ordeal) -> None:
        last = ordeal.phases[-1]
        said = json.dumps({**(last.told or {}), **changed})
        values = {**vars(last), "output": f"TOLD {said}"}
        ordeal.phases[-1] = type(last)(**values)

    return damage


DAMAGES: dict[str, tuple[Callable[[Ordeal], None], str]] = {
    "a missing row": (result_lines(lambda lines: lines[1:]), "rows of the epochs"),
    "a doubled row": (result_lines(lambda lines: [*lines, lines[-1]]), "doubled"),
    "a missing checkpoint": (remove_checkpoint, "checkpoints of the epochs"),
    "a damaged checkpoint": (flip, "checkpoint_000002"),
    "an uncommitted checkpoint": (remove_manifest, "are visible"),
    "repeated work": (repeat, "after report"),
    "work after the end": (run_again, "had ended, and ran again"),
    "something half-made": (leave(".milepost-tmp-1"), "left behind"),
    "another best result": (told(best=[12, 299]), "the best result"),
    "a missing trial": (told(trials=[[0, None]]), "the grid has the trials"),
}


def test_each_kind_of_damage(place: Any) -> None:
    """A good experiment passes, and each kind of damage is named."""
    ordeal = Ordeal(place, "function")
    ordeal.fit()
    audit.finished(ordeal)
    kept, phases, lines = ordeal.experiment, ordeal.phases, (ordeal.books / "lines").read_text()
    for name, (damage, message) in DAMAGES.items():
        ordeal.experiment = Path(shutil.copytree(kept, place.path / name / "exp"))
        ordeal.phases = [*phases]
        damage(ordeal)
        with pytest.raises(AssertionError, match=message):
            audit.finished(ordeal)
        (ordeal.books / "lines").write_text(lines)
    assert books.read(ordeal.books)
