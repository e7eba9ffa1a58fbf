"""The order in which waiting trials start."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from milepost.control.resources import Request

# How many later trials may start before one that does not fit yet; then all wait for it.
_OVERTAKES = 16


class StartQueue:
    """Trials that wait for resources: first come, first served, as far as they fit.

    A trial that does not fit is overtaken by later ones a bounded number of times, so that a
    large one among many small ones gets its turn. The cost of a choice depends on the number of
    different requests, not of trials.
    """

    def __init__(self) -> None:
        self._by_request: dict[Request, dict[str, int]] = {}
        self._request_of: dict[str, Request] = {}
        self._last = 0
        self._first = 0
        self._overtaken = 0

    def __len__(self) -> int:
        return len(self._request_of)

    def __contains__(self, trial_id: object) -> bool:
        return trial_id in self._request_of

    def __iter__(self) -> Iterator[str]:
        return iter(self._request_of)

    def add(self, trial_id: str, request: Request, *, in_front: bool = False) -> None:
        """Append a trial, or put it before all others."""
        assert trial_id not in self._request_of, trial_id
        line = self._by_request.setdefault(request, {})
        if in_front:
            self._first -= 1
            self._by_request[request] = {trial_id: self._first, **line}
        else:
            self._last += 1
            line[trial_id] = self._last
        self._request_of[trial_id] = request

    def discard(self, trial_id: str) -> None:
        """Take a trial out, if it is in."""
        request = self._request_of.pop(trial_id, None)
        if request is not None:
            line = self._by_request[request]
            del line[trial_id]
            if not line:
                del self._by_request[request]

    def choose(self, fits: Callable[[Request], bool]) -> str | None:
        """Return the trial that should start now, if any; it stays in the queue.

        Args:
            fits: whether a request can be met now.
        """
        heads = [(*next(iter(line.items())), request) for request, line in self._by_request.items()]
        heads.sort(key=lambda head: head[1])
        for place, (trial_id, _, request) in enumerate(heads):
            if fits(request):
                self._overtaken = self._overtaken + 1 if place else 0
                return trial_id
            if self._overtaken >= _OVERTAKES:
                return None
        return None
