from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from milepost import tune
from milepost.journal import records
from milepost.journal.log import Journal
from milepost.journal.objects import Objects
from milepost.storage import codec
from milepost.tune import place, setup


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MILEPOST_NODE_ROOT", str(tmp_path / "node"))


class Writer:
    """Writes the record of an experiment the way its driver does, without running it.

    Args:
        storage_path: where it goes.
        trainable: the function or class.
        space: the search space.
        options: ``tune_config``, ``run_config`` and ``resources_per_trial``.
    """

    def __init__(
        self, storage_path: Path, trainable: Any, space: Any = None, **options: Any
    ) -> None:
        run_config = options.get("run_config") or tune.RunConfig()
        run_config.name = run_config.name or "exp"
        run_config.storage_path = str(storage_path)
        experiment = tune.Experiment.of(
            trainable,
            space,
            options.get("tune_config") or tune.TuneConfig(),
            run_config,
            options.get("resources_per_trial"),
        )
        stored = place.create_experiment(
            str(storage_path), experiment.name, trainable=experiment.target.name, automatic=False
        )
        self.path = Path(stored.path)
        self.objects = Objects(stored.path)
        self.journal = Journal.open(stored)
        said = setup.describe(experiment).stored(stored.path)
        self.journal.append(records.Planned(at=1.0, setup=self.raw(said)))
        self._order = 0

    def raw(self, value: Any) -> msgspec.Raw:
        return msgspec.Raw(codec.encode(value, self.objects.put))

    def trial(
        self,
        config: dict[str, Any],
        status: str = "PENDING",
        *,
        started: bool = True,
        cut_by: str = "",
    ) -> str:
        """Add a trial that ended up with a status; return its id."""
        trial_id = f"t_{self._order:05d}"
        self.journal.append(
            records.Created(
                at=2.0,
                trial=trial_id,
                name=f"train_{trial_id}",
                directory=f"train_{trial_id}",
                tag=str(self._order),
                order=self._order,
                config=self.raw(config),
                evaluated=self.raw({}),
                resources=self.raw([{"CPU": 1.0}]),
            )
        )
        self._order += 1
        if started:
            self.journal.append(
                records.Launched(at=3.0, trial=trial_id, attempt=0, attempt_id="a", first_index=0)
            )
        changed = records.Changed(at=4.0, trial=trial_id, status=status, cut_by=cut_by)
        self.journal.append(changed)
        return trial_id

    def close(self, outcome: str = "interrupted") -> Path:
        """End the driver; return the experiment's directory."""
        self.journal.close(outcome)
        return self.path


@pytest.fixture
def written(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Writer]:
    """A function that begins the record of an experiment."""

    def make(trainable: Any, space: Any = None, **options: Any) -> Writer:
        return Writer(tmp_path / "store", trainable, space, **options)

    return make
