"""A network and a transformer that several workers train, killed anywhere: the same bits."""

from __future__ import annotations

import functools
import itertools
import tempfile
from pathlib import Path
from typing import Any

import cutting
import pytest
from cutting import Cut

EXAMPLES = list(cutting.TRAINED)
LIBRARIES = ("torch", "sklearn.datasets", "sklearn.model_selection")

#: Where a run is cut: before its first checkpoint, between two, and after the last.
CUTS = [
    Cut("worker", rank, reports, event, number)
    for rank in (0, 1)
    for reports, event, number in [
        *itertools.product((0, 1), ("forward", "step", "stepped"), (2,)),
        *itertools.product((0, 1), ("report", "reported"), (1,)),
        (2, "reported", 1),
    ]
]

DRIVER = [Cut("driver", 1, 1, "stepped", 2), Cut("driver", 0, 1, "reported", 1)]


@functools.cache
def whole(example: str) -> tuple[dict[str, bytes], list[float]]:
    """What a run comes to that nothing cuts."""
    root = tempfile.mkdtemp()
    cutting.fit(example, root)
    return cutting.outcome(f"{root}/run")


@pytest.mark.preloading(*LIBRARIES)
@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: "-".join(map(str, cut[1:])))
@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.always("ddp_transformer-1-1-forward-2")
def test_a_worker_is_killed(tmp_path: Path, example: str, cut: Cut) -> None:
    """The group goes on from its latest checkpoint, to the weights and losses of the whole run."""
    cutting.fit(example, str(tmp_path), cut)
    assert (tmp_path / "mark").exists()
    assert cutting.outcome(str(tmp_path / "run")) == whole(example)


@pytest.mark.chaos
@pytest.mark.parametrize("cut", DRIVER, ids=lambda cut: "-".join(map(str, cut[1:])))
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_driver_is_killed(place: Any, example: str, cut: Cut) -> None:
    """So does the same script, started again."""
    script = [str(Path(cutting.__file__)), example, str(place.home)]
    place.run(*script, *map(str, cut), code=-9)
    assert not place.wait_until_gone()
    assert (place.home / "mark").exists()
    assert "goes on from" in place.run(*script)
    place.run(*script[:2], str(place.path))
    run = str(place.home / "run")
    assert cutting.outcome(run) == cutting.outcome(str(place.path / "run"))
