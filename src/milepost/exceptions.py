"""Errors of workers under the names that scripts know from ``ray.exceptions``.

:class:`RayTaskError` wraps what user code raised and is also an instance of its type;
:class:`RayActorError` tells of a worker process that died.
"""

from __future__ import annotations

from milepost.errors import ActorDiedError, RayActorError, RayError, RayTaskError, TrialTimeoutError

__all__ = ["ActorDiedError", "RayActorError", "RayError", "RayTaskError", "TrialTimeoutError"]
