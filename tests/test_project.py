"""Floors of the project itself: layers, sizes, documents that run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "milepost"


def test_rooms_import_only_rooms_below_them() -> None:
    """import-linter finds no import that goes up the house, not inside functions either."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_has_its_place() -> None:
    """No folder or module of the package is missing from the layers that hold it."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layered = set(re.findall(r"milepost\.(\w+)", " ".join(contracts["contracts"][0]["layers"])))
    rooms = {entry.name for entry in PACKAGE.iterdir() if (entry / "__init__.py").exists()}
    modules = {entry.stem for entry in PACKAGE.glob("*.py")} - {"__init__"}
    assert rooms | modules <= layered


def test_no_file_holds_more_than_one_concept() -> None:
    """No Python file of ours is longer than 600 lines; tests, which are tables, may be."""
    folders = (ROOT / "src", ROOT / "benchmarks", ROOT / "examples")
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text().splitlines())
        for folder in folders
        for file in folder.rglob("*.py")
    }
    assert len(lengths) > 100
    assert {file: length for file, length in lengths.items() if length > 600} == {}


def test_decoders_are_made_once() -> None:
    """No type is decoded by msgspec before its decoder was made at import.

    Two threads that decode a type for the first time at once see it half described, and crash.
    """
    late = re.compile(r"msgspec\.\w+\.decode\([^\n]*type=")
    found = [path for path in PACKAGE.rglob("*.py") if late.search(path.read_text())]
    assert found == []


def test_links_between_documents_lead_somewhere() -> None:
    """Every relative link in a document names a file that exists."""
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    links = [
        (document, target.partition("#")[0])
        for document in documents
        for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text())
        if "://" not in target
    ]
    assert links
    broken = [f"{d.name}: {t}" for d, t in links if t and not (d.parent / t).exists()]
    assert broken == []


def test_the_readme_example_runs_in_an_empty_directory(tmp_path: Path) -> None:
    """Pasted into an empty directory, without torch, it finds the best trial and its checkpoint."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "torch.py").write_text("raise ImportError('not installed')\n")
    script = folder / "example.py"
    script.write_text(code)
    environment = {**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("{'lr': 0.3} ")
    assert float(last.split()[2]) == pytest.approx((10 * 0.4**20) ** 2)
    assert (tmp_path / "milepost_results").is_dir()


@pytest.mark.timeout(240)
def test_the_demo_survives_its_kill(tmp_path: Path) -> None:
    """``make demo`` kills a worker, and its trial goes on without losing or repeating an epoch."""
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "demo.py", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ">>> kill -9" in done.stdout
    assert "goes on from checkpoint_" in done.stdout
    assert "each of its 12 epochs ran exactly once" in done.stdout
