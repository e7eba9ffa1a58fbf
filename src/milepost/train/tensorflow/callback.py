"""The callback for Keras in training workers."""

from __future__ import annotations

from typing import Any

from milepost.train import reporting
from milepost.train.tensorflow.library import keras
from milepost.tune.integration._keras_events import Events

_Base: Any = keras().callbacks.Callback


class ReportCheckpointCallback(Events, _Base):  # type: ignore[misc]
    """Reports Keras' metrics and saves its model at chosen events. Mirrors Ray's class.

    Pass an object of it to ``model.fit(callbacks=[...])``, in all workers. The model is saved by
    all, because those of ``MultiWorkerMirroredStrategy`` can only be saved together; the
    checkpoint is what rank 0 has saved, ``model.keras``.

    Args:
        checkpoint_on: event or events, such as ``"epoch_end"`` (the default) or ``"train_end"``,
            at which the model is saved and reported.
        report_metrics_on: event or events at which metrics are reported; default ``"epoch_end"``.
        metrics: which metrics, under which names: a name, a list of them, or a dict
            ``{reported name: Keras' name}``; all by default.

    Raises:
        ValueError: there is no such event.
    """

    _report = staticmethod(reporting.report_where_all_save)
