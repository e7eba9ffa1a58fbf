"""Use of the machine over time."""

from __future__ import annotations

import threading
from statistics import fmean


class UtilMonitor(threading.Thread):
    """Samples the use of CPU and memory in a thread until it is stopped.

    Args:
        start: start at once; without it nothing is sampled.
        delay: seconds between two samples.
    """

    def __init__(self, start: bool = True, delay: float = 0.7) -> None:
        super().__init__(name="milepost-util-monitor", daemon=True)
        self.delay = delay
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._samples: dict[str, list[float]] = {}
        if start:
            self.start()

    def run(self) -> None:
        """Sample until :meth:`stop`."""
        import psutil

        while not self._ended.is_set():
            cpu = psutil.cpu_percent(interval=None)
            ram = psutil.virtual_memory().percent
            with self._lock:
                self._samples.setdefault("cpu_util_percent", []).append(float(cpu))
                self._samples.setdefault("ram_util_percent", []).append(float(ram))
            self._ended.wait(self.delay)

    def get_data(self) -> dict[str, dict[str, float]]:
        """Return ``{"perf": {name: mean since the last call}}``; empty without a sample."""
        with self._lock:
            samples, self._samples = self._samples, {}
        means = {name: fmean(values) for name, values in samples.items()}
        return {"perf": means} if means else {}

    def stop(self) -> None:
        """End the thread and wait for it; safe to call twice."""
        self._ended.set()
        if self.is_alive():
            self.join()
