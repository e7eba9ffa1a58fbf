"""What callbacks for Keras do; it works with any version of Keras, and without."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar

from milepost.api.spelling import did_you_mean
from milepost.tune.integration import reporting

#: The model's file in a checkpoint, in the format that needs no code to load.
MODEL_FILENAME = "model.keras"
_PARTS = ("epoch", "batch", "train_batch", "test_batch", "predict_batch")
_PHASES = ("train", "test", "predict")
#: Events of Keras at which something can be reported.
EVENTS = tuple(f"{part}_{end}" for part in (*_PARTS, *_PHASES) for end in ("begin", "end"))


class Events:
    """Reports Keras' metrics and saves its model at chosen events.

    Subclasses say where to, and derive from the ``Callback`` of the Keras at hand as well.

    Args:
        checkpoint_on: event or events at which the model is saved and reported.
        report_metrics_on: event or events at which metrics are reported.
        metrics: which metrics, under which names; all by default.

    Raises:
        ValueError: there is no such event.
    """

    _report: ClassVar[reporting.Report]
    model: Any

    def __init__(
        self,
        checkpoint_on: str | list[str] = "epoch_end",
        report_metrics_on: str | list[str] = "epoch_end",
        metrics: reporting.Metrics = None,
    ) -> None:
        super().__init__()
        self._checkpoint_on = _events("checkpoint_on", checkpoint_on)
        self._report_on = _events("report_metrics_on", report_metrics_on)
        self._names = reporting.names_of(metrics)
        for event in self._checkpoint_on | self._report_on:
            setattr(self, f"on_{event}", self._handler(event))

    def _handler(self, event: str) -> Callable[..., None]:
        """What Keras calls at an event; the logs come last, after an epoch or batch number."""

        def handle(*args: Any, logs: dict[str, Any] | None = None) -> None:
            known = logs if logs is not None else (args[-1] if args else None)
            available = known if isinstance(known, dict) else {}
            metrics = {k: _number(v) for k, v in reporting.chosen(self._names, available).items()}
            if event in self._checkpoint_on:
                self._report(metrics, self._save, {"_model_filename": MODEL_FILENAME})
            else:
                self._report(metrics)

        return handle

    def _save(self, directory: str) -> None:
        self.model.save(os.path.join(directory, MODEL_FILENAME))


def _events(argument: str, events: str | list[str]) -> set[str]:
    chosen = {events} if isinstance(events, str) else set(events)
    for event in chosen:
        if event not in EVENTS:
            raise ValueError(
                f"{argument} got {event!r}, which is no event of Keras."
                + did_you_mean(event, EVENTS)
            )
    return chosen


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
