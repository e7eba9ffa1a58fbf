"""How long a capture blocks its worker, without the rest of a report; for work on the keeper.

A driver, its keeper and one worker, as in a run, but nothing else::

    python benchmarks/report_latency.py
"""

from __future__ import annotations

import os
import select
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator

from milepost.journal import experiment as experiments
from milepost.keeper.capture import Capturer
from milepost.keeper.client import DriverLink
from milepost.keeper.intent import ExperimentRef
from milepost.keeper.protocol import Released

MIB = 1 << 20
#: name -> (files, bytes of all, captures, seconds between them)
LAYOUTS = {
    "4 KiB": (1, 4096, 40, 0.02),
    "1 MiB in 8 files": (8, MIB, 40, 0.02),
    "8 MiB": (1, 8 * MIB, 40, 0.02),
    "8 MiB in 8 files": (8, 8 * MIB, 40, 0.02),
    "8 MiB in 108 files": (108, 8 * MIB, 20, 0.05),
    "512 MiB": (1, 512 * MIB, 7, 1.0),
}
SUSTAINED = 2000


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="latency-") as directory:
        os.environ["MILEPOST_NODE_ROOT"] = os.path.join(directory, "node")
        found = experiments.create(
            os.path.join(directory, "storage"), name="latency", trainable="none"
        )
        reference = ExperimentRef(
            path=found.path, device=found.device, inode=found.inode, uuid=found.uuid
        )
        with DriverLink() as link:
            link.own(reference, 1)
            worker = os.fork()
            if worker == 0:
                try:
                    measure(link, reference, directory)
                finally:
                    sys.stdout.flush()
                    os._exit(0)
            serve(link, worker)


def serve(link: DriverLink, worker: int) -> None:
    """Play the driver until the worker has ended and everything is settled."""
    while os.waitpid(worker, os.WNOHANG) == (0, 0):
        select.select([link], [], [], 0.2)
        link.events()
    link.release()
    while not any(isinstance(event, Released) for event in link.events()):
        select.select([link], [], [])


def measure(link: DriverLink, reference: ExperimentRef, directory: str) -> None:
    capturer = Capturer(
        experiment_path=reference.path,
        experiment_uuid=reference.uuid,
        device=reference.device,
        inode=reference.inode,
        keeper_address=link.address,
        node_root=link.node_root,
        trial_id="trial",
        trial_dir="trial",
        attempt=0,
        attempt_id="latency",
    )
    indices = iter(range(1_000_000))
    for name, layout in LAYOUTS.items():
        seconds = list(blocked(capturer, indices, directory, *layout))[1:]  # the first warms up
        print(
            f"{name:20} blocks {statistics.median(seconds) * 1e6:7.0f} us (median of "
            f"{len(seconds)}, least {min(seconds) * 1e6:.0f} us)"
        )
    print(f"4 KiB, one after the other: {sustained(capturer, indices, directory):.0f} per second")
    capturer.close()


def blocked(
    capturer: Capturer,
    indices: Iterator[int],
    directory: str,
    files: int,
    nbytes: int,
    captures: int,
    pause_s: float,
) -> Iterator[float]:
    """Seconds for each of some captures, every one after the commit of the one before."""
    for _ in range(captures):
        with tempfile.TemporaryDirectory(dir=directory) as source:
            fill(source, files, nbytes)
            index = next(indices)
            began = time.perf_counter()
            capturer.capture(source, index, b'{"loss": 1.0}')
            yield time.perf_counter() - began
        shutil.rmtree(capturer.settled(index))
        time.sleep(pause_s)


def fill(source: str, files: int, nbytes: int) -> None:
    for number in range(files):
        with open(os.path.join(source, f"part-{number}"), "wb") as file:
            left = nbytes // files
            while left:
                left -= file.write(os.urandom(min(left, 4 * MIB)))


def sustained(capturer: Capturer, indices: Iterator[int], directory: str) -> float:
    """Small checkpoints per second, durable ones, over some seconds."""
    with tempfile.TemporaryDirectory(dir=directory) as source:
        fill(source, 1, 4096)
        began = time.perf_counter()
        for _ in range(SUSTAINED):
            index = next(indices)
            capturer.capture(source, index, b'{"loss": 1.0}')
        capturer.settled(index)
        return SUSTAINED / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
