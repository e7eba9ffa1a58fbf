"""All files of one trial."""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from milepost.api.nested import flatten_dict
from milepost.journal.files import failures, params
from milepost.journal.files.events import EventFile
from milepost.journal.files.progress_csv import ProgressCsv
from milepost.journal.files.result_json import ResultJson
from milepost.journal.files.rows import Row, plain, to_json


class TrialFiles:
    """The result files of one trial, as far as they are wanted.

    Rows reach the files with :meth:`flush`, all others at once.

    Args:
        directory: the trial's directory, absolute.
        config: codec JSON.
        evaluated: the searched variables, codec JSON.
        kinds: of ``"json"``, ``"csv"`` and ``"tensorboard"``.
        get_object: returns the bytes for a digest.
        notice: is told of what cannot be shown.
    """

    def __init__(
        self,
        directory: str,
        config: msgspec.Raw,
        evaluated: msgspec.Raw,
        kinds: Collection[str],
        get_object: Callable[[str], bytes],
        notice: Callable[[str], None],
    ) -> None:
        self.directory = directory
        self._config = config
        self._evaluated = evaluated
        self._get_object = get_object
        self._json = ResultJson(directory, _as_json(config)) if "json" in kinds else None
        self._csv = ProgressCsv(directory) if "csv" in kinds else None
        self._events = EventFile(directory, notice) if "tensorboard" in kinds else None
        self._begun = False
        self._last: Row | None = None
        self._there: list[tuple[ResultJson | ProgressCsv | EventFile | None, int]] = []

    def begin(self) -> None:
        """The trial is started, for the first time or again."""
        if self._events is not None:
            self._events.begin()
        if not self._begun:
            self._begun = True
            self._write_params()

    def show_config(self) -> None:
        """Complete the files of a trial that was started before, by whomever."""
        if self._json is not None:
            params.ensure(self.directory, self._config, self._get_object)

    def add(self, row: Row) -> None:
        """One more report."""
        self._last = row
        if self._json is not None:
            self._json.add(row)
        if self._csv is not None:
            self._csv.add(row)
        if self._events is not None:
            self._events.add(row)

    def reconfigure(self, config: msgspec.Raw) -> None:
        """The trial goes on with another config."""
        self._config = config
        if self._json is not None:
            self._json.config = _as_json(config)
        if self._begun:
            self._write_params()

    def fail(self, number: int, at: float, text: str, exception: str | None) -> None:
        """An attempt failed; ``exception`` is the digest of the pickled exception."""
        failures.add(self.directory, number, at, text)
        if exception is not None:
            failures.keep_exception(self.directory, self._get_object(exception))

    def end(self, at: float) -> None:
        """The trial will not be started again."""
        if self._events is not None and self._last is not None:
            searched = flatten_dict(plain(self._evaluated))
            if searched:
                self._events.add_hparams(at, searched, self._last)
        self.flush()

    def flush(self) -> None:
        """Write the rows that were added."""
        # result.json first: it is what other files are completed from.
        for file in (self._json, self._csv, self._events):
            if file is not None:
                file.flush()

    def keep(self, rows: int) -> int:
        """Cut each table after its first ``rows`` rows.

        Returns:
            How many rows the shortest one has.
        """
        self._there = [(table, table.keep(rows)) for table in self._tables()]
        return min((there for _, there in self._there), default=rows)

    def complete(self, first: int, rows: list[Row]) -> None:
        """Add to each table the rows that it lacks, after :meth:`keep`.

        Args:
            first: position of the first of ``rows`` among all rows of the trial, from 0.
            rows: the last rows of the trial.
        """
        most = max((there for _, there in self._there), default=first + len(rows))
        for table, there in [*self._there, (self._events, most)]:
            for row in rows[max(there - first, 0) :]:
                if table is not None:
                    table.add(row)
        if rows:
            self._last = rows[-1]
        self.flush()

    def _tables(self) -> list[ResultJson | ProgressCsv]:
        return [table for table in (self._json, self._csv) if table is not None]

    def _write_params(self) -> None:
        if self._json is not None:
            params.write(self.directory, self._config, self._get_object)


def _as_json(config: msgspec.Raw) -> bytes:
    # It is in every row, so large arrays are named only; params.json has them once.
    return to_json(plain(config)).encode()
