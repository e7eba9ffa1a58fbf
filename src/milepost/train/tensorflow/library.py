"""The Keras that TensorFlow uses in this process."""

from __future__ import annotations

import os
from typing import Any

from milepost.tune.integration.reporting import library


def keras() -> Any:
    """Import what ``tf.keras`` is: Keras, or Keras 2 where ``TF_USE_LEGACY_KERAS`` is set.

    Raises:
        ImportError: it is not installed; the message has the command.
    """
    legacy = os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true")
    return library("tf_keras" if legacy else "keras")
