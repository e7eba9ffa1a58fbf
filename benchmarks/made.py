"""A large experiment, written by the journal's own writer and without running a single trial."""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec

from milepost.journal import compaction, epochs, replay
from milepost.journal import experiment as experiments
from milepost.journal import records as rec
from milepost.journal.log import Journal
from milepost.journal.objects import Objects
from milepost.journal.projector import Projector
from milepost.journal.tail import Tail
from milepost.storage import codec

RESOURCES = msgspec.Raw(codec.encode([{"CPU": 1.0}]))


def experiment(path: str, trials: int, reports: int = 3) -> list[float]:
    """Write an experiment that has ended; returns the seconds that each record took."""
    made = experiments.create(path, name=os.path.basename(path), trainable="train")
    journal = Journal.open(made)
    tail = Tail(path, journal.first_segment)
    projector = Projector(path, frozenset({"json", "csv"}), print)
    took: list[float] = []

    def add(record: rec.AnyRecord) -> None:
        began = time.perf_counter()
        journal.append(record)
        took.append(time.perf_counter() - began)

    def project() -> None:
        for _, record in tail.read():
            if isinstance(record, rec.Continued):
                projector.flush()
                segment = epochs.Segment(record.epoch, record.segment)
                compaction.compact(path, segment, keep_rows=False)
            projector.apply(record)
        projector.flush()

    add(rec.Planned(at=time.time(), setup=_raw({"trainable": "train", "num_samples": trials})))
    objects = Objects(path)
    for number in range(trials):
        if number % 1000 == 0:
            add(rec.Searched(at=time.time(), state=objects.put(b"state %d" % number)))
        for record in _life(number, reports):
            add(record)
        if number % 100 == 99:
            project()
    journal.close("finished")
    project()
    tail.close()
    assert len(replay.image(path).trials) == trials
    return took


def _life(number: int, reports: int) -> list[rec.AnyRecord]:
    """All records of one trial."""
    trial = f"a1b2c_{number:05d}"
    at = time.time()
    config = {"x": number / 7, "layers": number % 5, "name": "adam", "dropout": 0.1}
    found: list[rec.AnyRecord] = [
        rec.Created(
            at=at,
            trial=trial,
            name=f"train_{trial}",
            directory=f"train_{trial}_{number}_dropout=0.1000,x={number / 7:.4f}",
            tag=f"{number}_dropout=0.1000,x={number / 7:.4f}",
            order=number,
            config=_raw(config),
            evaluated=_raw(config),
            resources=RESOURCES,
        ),
        rec.Launched(at=at, trial=trial, attempt=0, attempt_id="0123456789abcdef", first_index=0),
        rec.Changed(at=at, trial=trial, status="RUNNING"),
    ]
    for iteration in range(1, reports + 1):
        found.append(
            rec.Reported(
                at=at,
                trial=trial,
                attempt=0,
                iteration=iteration,
                row=_raw(_row(trial, number, iteration, reports)),
                action="continue",
            )
        )
    found.append(rec.Changed(at=at, trial=trial, status="TERMINATED"))
    return found


def _row(trial: str, number: int, iteration: int, reports: int) -> dict[str, Any]:
    return {
        "loss": (number % 97) / iteration,
        "accuracy": 1 - 1 / (iteration + number % 13),
        "timestamp": int(time.time()),
        "checkpoint_dir_name": None,
        "done": iteration == reports,
        "training_iteration": iteration,
        "trial_id": trial,
        "date": "2026-01-31_12-00-00",
        "time_this_iter_s": 0.25,
        "time_total_s": 0.25 * iteration,
        "pid": 4711,
        "hostname": "host",
        "node_ip": "127.0.0.1",
        "time_since_restore": 0.25 * iteration,
        "iterations_since_restore": iteration,
    }


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(codec.encode(value))
