from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from milepost.tune import naming

DATE = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"


class Trial(SimpleNamespace):
    """What a name creator sees."""

    def __str__(self) -> str:
        return str(self.name)


def trial(**known: Any) -> Any:
    return Trial(
        **{
            "trial_id": "abcde_00000",
            "config": {},
            "experiment_tag": "0_lr=0.1",
            "name": "train_abcde_00000",
            **known,
        }
    )


def train(config: Any) -> None:
    """Do nothing."""


class Callable_:
    """A callable without a name."""

    def __call__(self, config: Any) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("trainable", "name"),
    [
        (train, "train"),
        (lambda config: None, "lambda"),
        (functools.partial(functools.partial(train)), "train"),
        ("registered", "registered"),
        (type("MyTrainable", (), {}), "MyTrainable"),
        (type("Named", (), {"_name": "PPO"}), "PPO"),
        (Callable_(), "DEFAULT"),
    ],
)
def test_names_of_trainables(trainable: Any, name: str) -> None:
    """Functions, partials, lambdas, classes and objects get the names that Ray gives them."""
    assert naming.trainable_name(trainable) == name


def test_an_object_without_a_name_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Falling back to DEFAULT is one line in the log."""
    naming.trainable_name(Callable_())
    assert "has no name" in caplog.text


def test_automatic_names_have_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """An experiment without a name gets the trainable's and the time, or the name alone."""
    assert re.fullmatch(rf"a_b_{DATE}", naming.automatic_name("a/b"))
    monkeypatch.setenv("TUNE_DISABLE_DATED_SUBDIR", "1")
    assert naming.automatic_name("a/b") == "a_b"


def test_trial_names() -> None:
    """A trial is named after the trainable, its env and its id, or by the creator."""
    name_of = naming.trial_namer("train", None)
    assert name_of(trial()) == "train_abcde_00000"
    assert name_of(trial(config={"env": "ns/Cart"})) == "train_ns_Cart_abcde_00000"
    assert name_of(trial(config={"env": Callable_})) == "train_Callable__abcde_00000"
    assert naming.trial_namer("train", lambda t: t.config["lr"])(trial(config={"lr": 3})) == "3"


def test_directory_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory is named after the trial, its tag and the time; unsafe characters go."""
    dirname_of = naming.directory_namer(str(tmp_path), None)
    name = dirname_of(trial(experiment_tag="0_path=a/b,lr=0.1"))
    assert re.fullmatch(rf"train_abcde_00000_0_path=a_b,lr=0\.1_{DATE}", name)
    monkeypatch.setenv("TUNE_MAX_LEN_IDENTIFIER", "8")
    assert re.fullmatch(rf"train_ab_{DATE}", dirname_of(trial()))


def test_long_names_fit_the_file_system(tmp_path: Path) -> None:
    """A tag of many multi-byte characters still makes a directory that can be created."""
    dirname_of = naming.directory_namer(str(tmp_path), None)
    for _ in range(2):
        name = dirname_of(trial(experiment_tag="ü" * 400))
        (tmp_path / name).mkdir()
    assert all(len(os.fsencode(name)) <= 255 for name in os.listdir(tmp_path))


def test_no_directory_name_is_given_twice(tmp_path: Path) -> None:
    """Equal names of a creator, and names that exist on disk, get a suffix."""
    (tmp_path / "mine").mkdir()
    dirname_of = naming.directory_namer(str(tmp_path), lambda t: "mine")
    names = [dirname_of(trial()) for _ in range(3)]
    assert all(re.fullmatch(r"mine_[0-9a-f]{4}", name) for name in names)
    assert len(set(names)) == 3


def test_a_creator_names_one_directory(tmp_path: Path) -> None:
    """A separator in a custom directory name is a ValueError with the name."""
    dirname_of = naming.directory_namer(str(tmp_path), lambda t: "a/b")
    with pytest.raises(ValueError, match="'a/b'"):
        dirname_of(trial())
