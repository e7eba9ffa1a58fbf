from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from milepost.checkpoint import manifest as manifests
from milepost.checkpoint import tree
from milepost.checkpoint.commit import Prepared, commit
from milepost.checkpoint.manifest import Manifest, checkpoint_id, checkpoint_name

Stage = Callable[..., Prepared]

FILES = {"model.bin": b"weights" * 100, "state/optimizer.bin": b"moments" * 50}


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """Permission bits in these tests are those of a usual umask, whoever runs them."""
    previous = os.umask(0o022)
    yield
    os.umask(previous)


@pytest.fixture
def trial(tmp_path: Path) -> str:
    """A trial directory in an experiment directory."""
    path = tmp_path / "experiment" / "trial"
    path.mkdir(parents=True)
    return str(path)


@pytest.fixture
def stage() -> Stage:
    """Return a function that stages a checkpoint as the keeper does."""

    def build(
        trial: str,
        index: int,
        files: dict[str, bytes] | None = None,
        *,
        metrics: dict[str, object] | None = None,
        attempt: str = "attempt",
        full: bool = False,
    ) -> Prepared:
        directory = os.path.join(trial, f".milepost-tmp-{attempt}-{index}")
        os.makedirs(directory, exist_ok=True)
        for path, data in (FILES if files is None else files).items():
            os.makedirs(os.path.dirname(os.path.join(directory, path)), exist_ok=True)
            with open(os.path.join(directory, path), "wb") as file:
                file.write(data)
        if full and not os.path.exists(os.path.join(directory, "empty")):
            os.makedirs(os.path.join(directory, "empty", "inner"))
            os.symlink("state/optimizer.bin", os.path.join(directory, "latest"))
        described = tree.describe(directory)
        manifest = Manifest(
            id=checkpoint_id(attempt, index),
            run="run",
            trial="t1",
            index=index,
            iteration=index + 1,
            metrics=msgspec.Raw(json.dumps(metrics or {"loss": float(index)}).encode()),
            files=described.files,
            directories=described.directories,
            writer="milepost test",
        )
        return Prepared(directory, os.path.join(trial, checkpoint_name(index)), manifest)

    return build


@pytest.fixture
def save(stage: Stage) -> Callable[..., str]:
    """Return a function that commits a checkpoint and returns its directory."""

    def build(trial: str, index: int, files: dict[str, bytes] | None = None) -> str:
        prepared = stage(trial, index, files)
        (outcome,) = commit([prepared])
        assert outcome == prepared.manifest
        assert manifests.read(prepared.target) == prepared.manifest
        return prepared.target

    return build
