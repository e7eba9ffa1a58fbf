"""Writes the golden experiments of this version: ``python tests/golden/write.py experiments-v2``.

``python tests/golden/write.py training-v2`` writes that of a training run.

Keep those of earlier versions: the tests restore them all. Where it can (as root), the runs see
the host name "golden"; they work in ``/tmp/golden``, with a copy of the package, so that nothing
of the machine that wrote them gets into the files.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import golden_run

import milepost
from milepost.checkpoint import verify
from milepost.journal import replay

HERE = Path(__file__).parent
ROOT = Path("/tmp/golden")


def write(target: Path) -> None:
    """Run all cases, and keep what they leave."""
    target.mkdir()
    for case, (where, _) in golden_run.CASES.items():
        experiment = run("golden_run.py", case, killed=not where.startswith("never"))
        shutil.copytree(experiment, target / case / "experiment", symlinks=True)
        expected = json.dumps(describe(experiment), indent=1, sort_keys=True)
        (target / case / "expected.json").write_text(f"{expected}\n")
    shutil.rmtree(ROOT)


def write_training(target: Path) -> None:
    """Run a trainer until it is killed, and keep what it leaves."""
    shutil.copytree(run("golden_training.py", "experiment", killed=True), target, symlinks=True)
    shutil.rmtree(ROOT)


def run(script: str, case: str, *, killed: bool) -> Path:
    """Run a case to where it is cut, and wait until its keeper has committed everything."""
    shutil.rmtree(ROOT, ignore_errors=True)
    (ROOT / "tmp").mkdir(parents=True)
    shutil.copytree(
        Path(milepost.__file__).parent,
        ROOT / "src" / "milepost",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copy(HERE / script, ROOT / "src")
    program = [sys.executable, str(ROOT / "src" / script), "record", case]
    if os.getuid() == 0:
        program = ["unshare", "--uts", "sh", "-c", 'hostname golden; exec "$@"', "sh", *program]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(ROOT / "home"),
        "TMPDIR": str(ROOT / "tmp"),
        "PYTHONPATH": str(ROOT / "src"),
    }
    done = subprocess.run(program, env=environment, cwd=ROOT, check=False)
    assert done.returncode == (-9 if killed else 0), done
    deadline = time.monotonic() + 30
    while list((ROOT / "tmp").rglob("keeper.sock")):
        assert time.monotonic() < deadline, "the keeper does not end"
        time.sleep(0.05)
    return ROOT / "home" / "milepost_results" / "experiment"


def describe(experiment: Path) -> dict[str, object]:
    """What the experiment amounts to, in terms that no later format can change."""
    trials = {}
    for trial in replay.image(str(experiment)).trials.values():
        directory = experiment / trial.directory
        params = directory / "params.json"
        trials[trial.trial] = {
            "order": trial.order,
            "directory": trial.directory,
            "status": trial.status,
            "x": json.loads(params.read_text())["x"] if params.exists() else None,
            "rows": trial.rows,
            "failures": trial.failures,
            "checkpoints": {
                index: manifest.iteration for index, manifest in verify.committed(str(directory))
            },
        }
    return {"trials": trials}


if __name__ == "__main__":
    name = sys.argv[1]
    (write_training if name.startswith("training") else write)(HERE / name)
