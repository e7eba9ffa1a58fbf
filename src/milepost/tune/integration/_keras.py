"""The callback for Keras, whose base class needs Keras to be there."""

from __future__ import annotations

from typing import Any

from milepost.tune.integration import reporting
from milepost.tune.integration._keras_events import Events

_Base: Any = reporting.library("keras").callbacks.Callback


class TuneReportCheckpointCallback(Events, _Base):  # type: ignore[misc]
    """Reports from a trial. Mirrors Ray's class; arguments are those of :class:`Events`.

    Pass an object of it to ``model.fit(callbacks=[...])`` inside a function trainable.
    """

    _report = staticmethod(reporting.report)
