"""Experiments that are no longer where their run has begun."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from milepost.journal import experiment as experiments
from milepost.tune.whereabouts import Whereabouts


@pytest.fixture
def made(tmp_path: Path) -> experiments.Experiment:
    return experiments.create(str(tmp_path / "exp"), name="exp", trainable="train")


def test_one_that_is_there(made: experiments.Experiment) -> None:
    """Whatever else is wrong, it is not gone."""
    with Whereabouts(made, "restore({!r})".format) as whereabouts:
        assert whereabouts.loss() is None
        Path(made.home, "experiment.json").write_text("{")
        assert whereabouts.loss() is None


def test_one_that_was_moved(made: experiments.Experiment, tmp_path: Path) -> None:
    """The new place is named, also when there is something else at the old one."""
    with Whereabouts(made, "restore({!r})".format) as whereabouts:
        Path(made.path).rename(tmp_path / "now")
        for _ in range(2):
            loss = whereabouts.loss()
            assert f"was moved to {tmp_path / 'now'} while" in str(loss)
            if not Path(made.path).exists():
                experiments.create(made.path, name="exp", trainable="train")


def test_one_that_was_deleted(made: experiments.Experiment) -> None:
    """No place can be named."""
    with Whereabouts(made, "restore({!r})".format) as whereabouts:
        shutil.rmtree(made.path)
        assert "was deleted, or moved to another file system" in str(whereabouts.loss())


def test_one_whose_own_files_were_deleted(made: experiments.Experiment) -> None:
    """The directory is there, but no experiment any more."""
    with Whereabouts(made, "restore({!r})".format) as whereabouts:
        shutil.rmtree(made.home)
        assert "was deleted" in str(whereabouts.loss())


def test_one_that_was_gone_before(made: experiments.Experiment) -> None:
    """It could not even be followed."""
    shutil.rmtree(made.path)
    with Whereabouts(made, "restore({!r})".format) as whereabouts:
        assert "was deleted" in str(whereabouts.loss())
