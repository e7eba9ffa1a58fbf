"""Experiment trackers and Keras, under Ray's module names."""

from __future__ import annotations

from milepost.api.lazy import attributes

__getattr__, __dir__ = attributes(__name__, {}, ("comet", "keras", "mlflow", "wandb"))
