from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import msgspec
import pytest

from milepost.checkpoint import tree
from milepost.checkpoint.commit import Prepared, commit
from milepost.checkpoint.manifest import Manifest, checkpoint_id, checkpoint_name
from milepost.journal import experiment as experiments
from milepost.journal import records as rec
from milepost.journal.log import Journal
from milepost.storage import codec


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(codec.encode(value))


class Run:
    """An experiment written the way a run writes it: journal, result files, checkpoints."""

    def __init__(self, path: Path, checkpoint_config: dict[str, Any] | None = None) -> None:
        self.path = str(path)
        experiment = experiments.create(self.path, name=path.name, trainable="train")
        self.journal = Journal.open(experiment)
        setup = {"run_config": {"checkpoint_config": checkpoint_config or {}}}
        self.journal.append(rec.Planned(at=1.0, setup=raw(setup)))
        self._order = 0
        self._closed = False

    def trial(
        self,
        trial_id: str,
        rows: list[dict[str, Any]],
        *,
        config: dict[str, Any] | None = None,
        status: str = "TERMINATED",
        log: bool = True,
    ) -> str:
        """Add a trial that reported ``rows``; return its directory."""
        config = {} if config is None else config
        directory = f"train_{trial_id}"
        self.journal.append(
            rec.Created(
                at=1.0,
                trial=trial_id,
                name=directory,
                directory=directory,
                tag=f"{self._order}_x",
                order=self._order,
                config=raw(config),
                evaluated=raw({k: v for k, v in config.items() if isinstance(v, int | float)}),
                resources=raw([{"CPU": 1.0}]),
            )
        )
        self._order += 1
        path = os.path.join(self.path, directory)
        os.makedirs(path)
        for number, row in enumerate(rows, 1):
            whole = {"training_iteration": number, "trial_id": trial_id, "pid": 7, **row}
            self.journal.append(
                rec.Reported(
                    at=1.0,
                    trial=trial_id,
                    attempt=0,
                    iteration=number,
                    row=raw(whole),
                    action="continue",
                )
            )
            if log:
                with open(os.path.join(path, "result.json"), "a") as file:
                    file.write(json.dumps({**whole, "config": config}) + "\n")
        self.journal.append(rec.Changed(at=2.0, trial=trial_id, status=status))
        return path

    def checkpoint(self, trial_dir: str, index: int, row: dict[str, Any], attempt: int = 0) -> str:
        """Commit a checkpoint with that row; return its directory."""
        staged = os.path.join(trial_dir, f".milepost-tmp-{index}")
        os.makedirs(staged)
        Path(staged, "model.bin").write_bytes(b"weights" * 10)
        described = tree.describe(staged)
        target = os.path.join(trial_dir, checkpoint_name(index))
        manifest = Manifest(
            id=checkpoint_id("attempt", index),
            trial=trial_dir.rpartition("_")[2],
            index=index,
            iteration=index + 1,
            metrics=raw(row),
            files=described.files,
            directories=described.directories,
        )
        (outcome,) = commit([Prepared(staged, target, manifest)])
        assert outcome == manifest
        return target

    def fail(self, trial_dir: str, error: Exception) -> None:
        """Leave the files of a failure."""
        Path(trial_dir, "error.txt").write_text(f"Failure # 1\n{error}\n")
        Path(trial_dir, "error.pkl").write_bytes(pickle.dumps(error))

    def close(self) -> None:
        """End the run; does nothing the second time."""
        if not self._closed:
            self._closed = True
            self.journal.close("finished")


@pytest.fixture
def new_run(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """A function that begins an experiment; its journal is closed at the end of the test."""

    def make(name: str = "exp", **options: Any) -> Run:
        run = Run(tmp_path / name, **options)
        request.addfinalizer(run.close)
        return run

    return make
