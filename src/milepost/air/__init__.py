"""Ray's package of that name, as far as scripts still import from it: :mod:`.integrations`."""

from __future__ import annotations

from milepost.api.lazy import attributes

_ADVICE = {
    name: f"Import it from milepost.tune: `from milepost.tune import {name}`."
    for name in ("Checkpoint", "CheckpointConfig", "FailureConfig", "Result", "RunConfig")
}

__getattr__, __dir__ = attributes(__name__, {}, ("integrations",), _ADVICE)
