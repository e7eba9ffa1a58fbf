"""Trainables and environments by name."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from milepost import tune
from milepost.tune import registry


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_trainables", {})
    monkeypatch.setattr(registry, "_environments", {})
    return


def train(config: dict[str, Any]) -> None:
    """A trainable."""


class Trained(tune.Trainable):
    """A trainable class."""


@pytest.mark.parametrize(
    "trainable",
    [train, Trained, functools.partial(lambda config, x: x, x=1), lambda config, more=1: None],
)
def test_what_can_be_registered(trainable: Any) -> None:
    """Functions of one argument and Trainable classes are found again as they were."""
    tune.register_trainable("mine", trainable)
    assert registry.get_trainable("mine") is trainable
    assert registry.is_registered("mine")


@pytest.mark.parametrize(
    ("trainable", "error", "message"),
    [
        (object, TypeError, "object must derive from milepost.tune.Trainable"),
        (3, TypeError, "got 3"),
        ("other", TypeError, "got 'other'"),
        (lambda: None, ValueError, "one argument, the config"),
        (lambda config, data: None, ValueError, "Fix data"),
        (lambda **options: None, ValueError, "first argument for the config"),
    ],
)
def test_what_cannot_be_registered(trainable: Any, error: type[Exception], message: str) -> None:
    """Everything else is refused when it is registered, not when it runs."""
    with pytest.raises(error, match=message):
        tune.register_trainable("mine", trainable)
    assert not registry.is_registered("mine")


def test_names_must_be_text() -> None:
    """A trainable is registered under a string."""
    with pytest.raises(TypeError, match="got 3"):
        tune.register_trainable(3, train)  # type: ignore[arg-type]


def test_unknown_names() -> None:
    """An unknown name suggests the right one."""
    with pytest.raises(tune.TuneError, match=r"'trian'. No trainable is registered"):
        registry.get_trainable("trian")
    tune.register_trainable("train", train)
    with pytest.raises(tune.TuneError, match="Did you mean 'train'"):
        registry.get_trainable("trian")


def test_a_name_that_is_taken_over(caplog: pytest.LogCaptureFixture) -> None:
    """Another trainable under the same name is one line in the log, unless it is expected."""
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        tune.register_trainable("mine", train)
        tune.register_trainable("mine", train)
        tune.register_trainable("mine", Trained, warn=False)
        assert caplog.text == ""
        tune.register_trainable("mine", train)
    assert "'mine' now stands for" in caplog.text
    assert registry.get_trainable("mine") is train


def test_environments() -> None:
    """Functions that make environments have names of their own."""
    tune.register_env("maze", dict)
    assert registry.get_env("maze") is dict
    with pytest.raises(tune.TuneError, match="Did you mean 'maze'"):
        registry.get_env("maize")
    with pytest.raises(TypeError, match="got 3"):
        tune.register_env("maze", 3)  # type: ignore[arg-type]
