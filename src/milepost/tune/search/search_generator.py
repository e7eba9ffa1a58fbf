"""Makes trials of what a searcher suggests."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import pickle
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from milepost.api.checks import ArgumentError
from milepost.api.search_algorithm import SearchAlgorithm, TrialSpec
from milepost.api.searcher import Searcher
from milepost.tune.search.concurrency_limiter import ConcurrencyLimiter
from milepost.tune.search.domains import Domain
from milepost.tune.search.space import Path, filled, variable_of, without
from milepost.tune.search.tags import format_suggestion
from milepost.tune.search.variants import finished

logger = logging.getLogger("milepost.tune")


class SearchGenerator(SearchAlgorithm):
    """Makes a trial of each suggestion of a searcher. Mirrors Ray's class.

    A suggestion is merged over the constants of the experiment's configuration; functions of
    ``sample_from`` are called last, and the searcher never sees them.

    Args:
        searcher: proposes configurations.

    Raises:
        TypeError: it is no searcher.
    """

    CKPT_FILE_TMPL = "search-generator-state-{}.pkl"

    def __init__(self, searcher: Searcher) -> None:
        if not isinstance(searcher, Searcher):
            raise SearcherTypeError(
                f"A searcher must derive from milepost.tune.search.Searcher, got {searcher!r}."
            )
        self.searcher = searcher
        self._config: dict[str, Any] | None = None
        self._num_samples = 0
        self._counter = 0
        self._warned = False

    @property
    def metric(self) -> Any:
        """The searcher's metric."""
        return self.searcher.metric

    @property
    def total_samples(self) -> int:
        """How many trials there will be at most."""
        return self._num_samples

    @property
    def trials_ahead(self) -> int:
        """One, or as many as a limiter around the searcher lets out at once."""
        return int(getattr(self.searcher, "max_concurrent", 1))

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Hand the run's metric, mode and space to the searcher."""
        space = without(config, lambda v: isinstance(v, Domain) and v.is_function())
        try:
            return bool(self.searcher.set_search_properties(metric, mode, space, **spec))
        except TypeError as error:
            if not spec or "unexpected keyword" not in str(error):
                raise
        logger.warning(
            "%s.set_search_properties() takes no **spec; it is called without. Add it.",
            type(self.searcher).__name__,
        )
        return bool(self.searcher.set_search_properties(metric, mode, space))

    def add_configurations(self, experiments: Any) -> None:
        """Take the configuration of exactly one experiment.

        Raises:
            ValueError: there are several.
        """
        if isinstance(experiments, Mapping):
            experiments = list(experiments.values())
        elif not isinstance(experiments, list | tuple):
            experiments = [experiments]
        if len(experiments) != 1 or self._config is not None:
            raise ArgumentError(
                f"{type(self.searcher).__name__} searches one experiment; use a searcher of its "
                "own for each."
            )
        spec = experiments[0].spec
        samples = int(spec.get("num_samples", 1))
        self._config = spec.get("config") or {}
        self._num_samples = sys.maxsize if samples == -1 else samples

    def next_trial(self, trial_id: str | None = None) -> TrialSpec | None:
        """Ask the searcher for a configuration; None when it has none now, or no more.

        Args:
            trial_id: of a trial that exists already; then limits do not count.

        Raises:
            ValueError: the suggestion is no dict.
        """
        if trial_id is None:
            if self.is_finished():
                return None
            trial_id = os.urandom(4).hex()
            suggested = self.searcher.suggest(trial_id)
        else:
            with self._unlimited():
                suggested = self.searcher.suggest(trial_id)
        if isinstance(suggested, str) and suggested == Searcher.FINISHED:
            self.set_finished()
            logger.info("%s has no more suggestions.", type(self.searcher).__name__)
            return None
        if suggested is None:
            return None
        if not isinstance(suggested, Mapping):
            raise ValueError(
                f"{type(self.searcher).__name__}.suggest() must return a dict, None or "
                f"Searcher.FINISHED, got {suggested!r}."
            )
        self._counter += 1
        searched = _flat(suggested)
        merged = _merged(filled(self._config or {}, {}), filled(dict(suggested), {}))
        shown = format_suggestion(_flat(merged))
        return TrialSpec(
            trial_id=trial_id,
            config=finished(merged),
            evaluated_params={"/".join(map(str, path)): v for path, v in searched.items()},
            experiment_tag=f"{self._counter}_{shown}" if shown else str(self._counter),
        )

    def adopt(self, trial_id: str) -> bool:
        """Count a trial; the searcher, which has not suggested it, is told nothing of it."""
        self._counter += 1
        return False

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell the searcher."""
        self.searcher.on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the searcher."""
        self.searcher.on_trial_complete(trial_id, result=result, error=error)

    def is_finished(self) -> bool:
        """Whether ``num_samples`` trials were made, or the searcher has no more suggestions."""
        return self._counter >= self._num_samples or self._finished

    @contextlib.contextmanager
    def _unlimited(self) -> Iterator[None]:
        """Let limiters around the searcher let everything through."""
        limiters = [each for each in self._wrappers() if isinstance(each, ConcurrencyLimiter)]
        limits = [limiter.max_concurrent for limiter in limiters]
        try:
            for limiter in limiters:
                limiter.max_concurrent = sys.maxsize
            yield
        finally:
            for limiter, limit in zip(limiters, limits, strict=True):
                limiter.max_concurrent = limit

    def _wrappers(self) -> Iterator[Any]:
        """The searchers around the innermost one that have a state, from outside."""
        searcher: Any = self.searcher
        while (inner := getattr(searcher, "searcher", None)) is not None:
            if type(searcher).get_state is not Searcher.get_state:
                yield searcher
            searcher = inner

    def get_state(self) -> dict[str, Any]:
        """Return how many trials were made, and what wrappers around the searcher know.

        The innermost searcher's own state is a file beside it. That the search has ended is not
        part of it: it may go on with more samples.
        """
        wrappers = [(type(each).__name__, each.get_state()) for each in self._wrappers()]
        return {"counter": self._counter, "wrappers": wrappers}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`get_state` returned; limits stay as they are."""
        self._counter = state["counter"]
        known = [(type(each).__name__, each) for each in self._wrappers()]
        if [name for name, _ in known] != [name for name, _ in state["wrappers"]]:
            logger.warning(
                "The searcher was wrapped in %s, now it is in %s: what the wrappers knew is lost.",
                [name for name, _ in state["wrappers"]],
                [name for name, _ in known],
            )
            return
        for (_, wrapper), (_, saved) in zip(known, state["wrappers"], strict=True):
            limit = getattr(wrapper, "max_concurrent", None)
            wrapper.set_state(saved)
            if limit is not None:
                wrapper.set_max_concurrency(limit)

    def has_checkpoint(self, dirpath: str) -> bool:
        """Whether a directory holds a state of the searcher."""
        prefix, suffix = self.searcher.CKPT_FILE_TMPL.split("{}")
        return any(n.startswith(prefix) and n.endswith(suffix) for n in os.listdir(dirpath))

    def save_to_dir(self, dirpath: str, session_str: str) -> None:
        """Write the number of trials into a directory, and the searcher's state if it can save."""
        with open(os.path.join(dirpath, self.CKPT_FILE_TMPL.format(session_str)), "wb") as file:
            pickle.dump(self.get_state(), file)
        try:
            self.searcher.save_to_dir(dirpath, session_str)
        except NotImplementedError:
            if not self._warned:
                self._warned = True
                logger.warning(
                    "%s has no save(), so an interrupted run could not go on where it was.",
                    type(_innermost(self.searcher)).__name__,
                )

    def restore_from_dir(self, dirpath: str) -> None:
        """Take back the newest number of trials and state of the searcher in a directory.

        Raises:
            RuntimeError: the directory holds no state of the searcher.
        """
        states = sorted(
            glob.glob(os.path.join(glob.escape(dirpath), self.CKPT_FILE_TMPL.format("*")))
        )
        self.searcher.restore_from_dir(dirpath)  # first: without its state, ours says nothing
        if states:
            with open(states[-1], "rb") as file:
                self.set_state(pickle.load(file))


def _innermost(searcher: Searcher) -> Searcher:
    """What a limiter or repeater is wrapped around."""
    inner = getattr(searcher, "searcher", None)
    return _innermost(inner) if isinstance(inner, Searcher) else searcher


class SearcherTypeError(TypeError, AssertionError):
    """Something else was passed as a searcher; Ray raises ``AssertionError`` for it."""


def _flat(config: Mapping[Any, Any], path: Path = ()) -> dict[Path, Any]:
    """A configuration by path; functions of ``sample_from`` are left out."""
    flat: dict[Path, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, (*path, key)))
        elif not isinstance(value, Domain):
            flat[(*path, key)] = value
    return flat


def _merged(constants: dict[Any, Any], suggested: dict[Any, Any]) -> dict[Any, Any]:
    """Constants with a suggestion over them, level by level; both are copies already."""
    for key, value in suggested.items():
        old = constants.get(key)
        nested = isinstance(old, dict) and isinstance(value, dict)
        constants[key] = _merged(old or {}, value) if nested and not _is_variable(old) else value
    return constants


def _is_variable(value: Any) -> bool:
    return variable_of(value, ()) is not None
