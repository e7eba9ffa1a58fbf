"""The trainer of any framework, under Ray's module name."""

from __future__ import annotations

from milepost.train.data_parallel_trainer import DataParallelTrainer

__all__ = ["DataParallelTrainer"]
