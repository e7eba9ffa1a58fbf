"""A clock that only moves when it is told to."""

from __future__ import annotations

from collections.abc import Callable


class FakeClock:
    """Stands in for the module ``time``, and for a function that returns seconds.

    Both of its times move together: with :meth:`advance`, or when somebody sleeps. Where code takes
    a clock as an argument, pass the object, or one of its methods; where it uses the module
    ``time``, replace that: ``monkeypatch.setattr(module, "time", clock)``.

    Args:
        monotonic: what :meth:`monotonic` begins with, in seconds.
        wall: what :meth:`time` begins with, in seconds since the epoch.
        on_sleep: is called at each sleep, after the time has moved, with the monotonic time.

    Example:
        >>> clock = FakeClock()
        >>> start = clock.monotonic()
        >>> clock.advance(90)
        >>> clock.monotonic() - start
        90.0
    """

    def __init__(
        self,
        monotonic: float = 1_000.0,
        wall: float = 1_700_000_000.0,
        on_sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._monotonic = float(monotonic)
        self._wall = float(wall)
        self._on_sleep = on_sleep

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return self._monotonic

    __call__ = perf_counter = monotonic

    def time(self) -> float:
        """Seconds since the epoch."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            ValueError: time does not go back; for the wall clock see :meth:`set_wall`.
        """
        if not seconds >= 0:
            raise ValueError(f"time cannot pass by {seconds!r} seconds")
        self._monotonic += seconds
        self._wall += seconds

    def sleep(self, seconds: float) -> None:
        """Return at once, that much later."""
        self.advance(seconds)
        if self._on_sleep is not None:
            self._on_sleep(self._monotonic)

    def set_wall(self, seconds: float) -> None:
        """Set the wall clock alone, as an administrator or a time server does.

        Args:
            seconds: since the epoch; may lie in the past.
        """
        self._wall = float(seconds)

    def __repr__(self) -> str:
        return f"FakeClock(monotonic={self._monotonic!r}, wall={self._wall!r})"
