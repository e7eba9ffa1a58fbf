"""What the journal costs the driver per event, from the first to the last of 10,000 trials."""

from __future__ import annotations

import os

import made
from common import p50, storage, tell

TRIALS = 10_000


def main() -> None:
    with storage() as root:
        took = made.experiment(os.path.join(root, "experiment"), TRIALS)
    window = len(took) // 10
    tell(
        records=len(took),
        append_p50_s=p50(took),
        append_p99_s=sorted(took)[len(took) * 99 // 100],
        end_over_start=p50(took[-window:]) / p50(took[:window]),
    )


main()
