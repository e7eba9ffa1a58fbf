"""The cluster that TensorFlow reads from the environment."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
from collections.abc import Iterator

from milepost.train.context import current
from milepost.train.ports import addresses


@contextlib.contextmanager
def cluster() -> Iterator[None]:
    """Describe the workers in ``TF_CONFIG``, as ``MultiWorkerMirroredStrategy`` reads it.

    That strategy works with Keras 2 only, so ``TF_USE_LEGACY_KERAS`` is set where ``tf_keras`` is
    installed, unless it is set already.
    """
    context = current("milepost.train.tensorflow.cluster")
    os.environ["TF_CONFIG"] = json.dumps(
        {
            "cluster": {"worker": addresses(context)},
            "task": {"type": "worker", "index": context.world_rank},
        }
    )
    # Without tf_keras, tf.keras would not even be importable with it.
    if importlib.util.find_spec("tf_keras") is not None:
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    yield
