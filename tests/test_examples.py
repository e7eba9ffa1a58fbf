"""The examples run as they are, and say what they found."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

pytestmark = pytest.mark.timeout(240)


def run(name: str, folder: Path, *arguments: str, path: str = "") -> str:
    """Run an example as a user would; return what it prints."""
    environment = {**os.environ, "HOME": str(folder), "MILEPOST_NODE_ROOT": str(folder / "node")}
    if path:
        environment["PYTHONPATH"] = os.pathsep.join(
            part for part in (path, environment.get("PYTHONPATH")) if part
        )
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "library", "trials", "least"),
    [
        ("asha_pytorch", "torch", 4, 30.0),
        ("pbt_pytorch", "torch", 4, 30.0),
        ("optuna_sklearn", "optuna", 6, 80.0),
        ("optuna_xgboost", "xgboost", 4, 80.0),
    ],
)
@pytest.mark.always("optuna_xgboost-xgboost-4-80.0")
def test_an_example_tunes(
    name: str, library: str, trials: int, least: float, tmp_path: Path
) -> None:
    """The best model, loaded from its checkpoint, is good; a restore finds the same one."""
    if find_spec(library) is None:  # not imported here: that takes seconds
        pytest.skip(f"needs {library}")
    printed = run(name, tmp_path, "--smoke-test", "--storage-path", str(tmp_path / "results"))
    assert f"{trials} trials" in printed
    (share,) = re.findall(r"loaded again, tells ([\d.]+)% of the test", printed)
    assert float(share) > least
    (experiment,) = (tmp_path / "results").iterdir()
    again = run(name, tmp_path, "--restore", str(experiment))
    assert again.splitlines()[-1] == printed.splitlines()[-1]


@pytest.mark.chaos
def test_an_example_trains_with_workers(tmp_path: Path) -> None:
    """Started again with more epochs and another number of workers, it goes on."""
    place = ("--storage-path", str(tmp_path / "results"))
    printed = run("ddp_pytorch", tmp_path, "--smoke-test", *place)
    (share,) = re.findall(r"loaded again, tells ([\d.]+)% of the test", printed)
    assert float(share) > 60.0
    again = run("ddp_pytorch", tmp_path, "--epochs", "4", "--workers", "1", *place)
    assert "goes on from checkpoint_000001" in again
    assert "The checkpoint of epoch 4" in again
    said = run("ddp_pytorch", tmp_path, "--help")
    assert "python examples/ddp_pytorch.py --smoke-test" in said


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ddp_transformer", r"After step 40, with a loss of [23]\.\d\d:"),
        ("huggingface_style", r"The best of step 100, with a loss of 0\.[0-5]\d\d, is at"),
        ("lightning_style", r"The best tells [789]\d\.\d% of the test digits right, and is at"),
    ],
    ids=["ddp_transformer", "huggingface_style", "lightning_style"],
)
@pytest.mark.chaos
def test_an_example_of_a_loop(name: str, says: str, tmp_path: Path) -> None:
    """It learns something; started again with nothing left to do it finds the same."""
    place = ("--smoke-test", "--storage-path", str(tmp_path / "results"))
    printed = run(name, tmp_path, *place)
    assert re.search(says, printed)
    again = run(name, tmp_path, *place)
    assert "goes on from checkpoint_00000" in again
    assert again.splitlines()[-2:] == printed.splitlines()[-2:]
    assert f"python examples/{name}.py --smoke-test" in run(name, tmp_path, "--help")


@pytest.mark.parametrize(
    "name", ["asha_pytorch", "pbt_pytorch", "optuna_sklearn", "optuna_xgboost"]
)
@pytest.mark.chaos
def test_an_example_explains_itself(name: str, tmp_path: Path) -> None:
    """Its help says what it does and names every option."""
    said = run(name, tmp_path, "--help")
    for option in ("--smoke-test", "--samples", "--storage-path", "--restore"):
        assert option in said
    assert f"python examples/{name}.py --smoke-test" in said


@pytest.mark.chaos
def test_an_example_without_its_library(tmp_path: Path) -> None:
    """Without XGBoost it says so, and how to get it."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "found = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'xgboost' else found(name, *more)\n"
    )
    printed = run("optuna_xgboost", tmp_path, "--smoke-test", path=str(site))
    assert printed == "Skipped: this example needs XGBoost. Run `pip install xgboost`.\n"
