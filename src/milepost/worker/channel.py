"""The channel between the controller and one worker."""

from __future__ import annotations

import pickle
from typing import Any

from milepost.keeper.wire import Wire


class Channel:
    """Sends and receives the messages of :mod:`milepost.worker.protocol`.

    Raises:
        ChannelClosedError: from :meth:`send` and :meth:`receive`, when the other end is gone.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def fileno(self) -> int:
        """Descriptor for a selector."""
        return self._wire.fileno()

    def send(self, message: Any) -> None:
        """Send one message."""
        self._wire.send(pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL))

    def receive(self) -> Any:
        """Wait for one message."""
        return pickle.loads(self._wire.receive())

    def receive_available(self) -> list[Any]:
        """All messages that are here already; never waits."""
        return [pickle.loads(frame) for frame in self._wire.receive_available()]

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come since; to ask costs less than to receive nothing."""
        return self._wire.is_quiet

    @property
    def ended(self) -> bool:
        """Whether the other end is known to be gone."""
        return self._wire.ended

    def close(self) -> None:
        """Close the channel; safe to call twice."""
        self._wire.close()
