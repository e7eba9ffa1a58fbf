"""Experiments that were moved, renamed, copied or are seen from elsewhere go on as they were."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos import audit, subject
from chaos.moments import Moment
from chaos.ordeal import Ordeal

from milepost.testing.mounts import MountUnavailableError, mounted

pytestmark = pytest.mark.chaos  # others of their kind run always

#: Somewhere in the middle: some trials have ended, some run, some have never been started.
MIDDLE = Moment("line", 60)


def cut(place: Any, scenario: str = "function", moment: Moment = MIDDLE) -> Ordeal:
    """An experiment whose driver was killed in the middle."""
    ordeal = Ordeal(place, scenario)
    assert ordeal.fit(moment).come
    return ordeal


def census(directory: Path) -> dict[str, tuple[Any, ...]]:
    """Everything about the files of a directory that a run could change."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in directory.rglob("*"):
        info = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(directory))] = (info.st_mode, info.st_mtime_ns, content)
    return found


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on another file system than the tests' own."""
    shared = Path("/dev/shm")
    if shared.is_dir() and os.access(shared, os.W_OK) and _differs(shared, tmp_path):
        directory = shared / f"milepost-test-{os.getpid()}"
        directory.mkdir()
        yield directory
        shutil.rmtree(directory)
        return
    holder = tmp_path / "disk"
    holder.mkdir()
    try:
        with mounted("tmpfs", str(holder), 64 << 20) as point:
            yield Path(point)
    except MountUnavailableError as error:
        pytest.skip(str(error))


def _differs(one: Path, other: Path) -> bool:
    return one.stat().st_dev != other.stat().st_dev


@pytest.mark.parametrize("scenario", ["function", "class"])
@pytest.mark.always("function")
def test_renamed(scenario: str, place: Any) -> None:
    """Under another name and in another directory it is the same experiment."""
    ordeal = cut(place, scenario)
    target = place.path / "elsewhere" / "another name"
    target.parent.mkdir()
    ordeal.experiment = ordeal.experiment.rename(target)
    ordeal.restore()
    audit.finished(ordeal)
    assert not (place.home / "milepost_results" / subject.NAME).exists()


def test_renamed_with_captures_in_staging(place: Any) -> None:
    """What was captured and not committed still belongs to a renamed experiment."""
    ordeal = cut(place, moment=Moment("append", 120, ()))
    ordeal.experiment = ordeal.experiment.rename(place.path / "renamed")
    ordeal.restore()
    audit.finished(ordeal)


@pytest.mark.parametrize("scenario", ["function", "reuse"])
@pytest.mark.always("reuse")
def test_moved_to_another_file_system(scenario: str, place: Any, other_disk: Path) -> None:
    """Device and inodes may change: nothing on disk depends on them."""
    ordeal = cut(place, scenario)
    ordeal.experiment = Path(shutil.move(ordeal.experiment, other_disk / "moved"))
    ordeal.restore()
    audit.finished(ordeal)


def test_copied(place: Any) -> None:
    """A copy goes on by itself and changes nothing of the original, which goes on too."""
    ordeal = cut(place)
    original = ordeal.experiment
    ordeal.experiment = Path(shutil.copytree(original, place.path / "copy", symlinks=True))
    books = shutil.copytree(ordeal.books, place.path / "books before")
    before = census(original)
    ordeal.restore()
    audit.finished(ordeal)
    assert census(original) == before

    ordeal.experiment = original
    ordeal.books = books  # the original knows nothing of what the copy executed
    del ordeal.phases[1:]
    ordeal.restore()
    audit.finished(ordeal)


@pytest.mark.chaos
def test_copied_while_captures_are_in_staging(place: Any) -> None:
    """A copy leaves the captures of its original alone, and computes again what it lacks."""
    ordeal = cut(place, moment=Moment("append", 120, ()))
    original, before = ordeal.experiment, ordeal.phases[0]
    books = shutil.copytree(ordeal.books, place.path / "books before")
    staged = [path for path in place.leftovers() if path.endswith(".captured")]
    ordeal.experiment = Path(shutil.copytree(original, place.path / "copy", symlinks=True))
    copied = ordeal.restore()
    assert copied.told is not None, ordeal
    assert copied.told["best"] == [13, subject.score(13, 3)]
    assert [path for path in place.leftovers() if path.endswith(".captured")] == staged

    ordeal.experiment = original
    ordeal.books = books
    ordeal.phases[:] = [before]
    ordeal.restore()
    audit.finished(ordeal)


@pytest.mark.chaos
def test_copy_and_original_at_once(place: Any) -> None:
    """Both have the same id and run on one machine at the same time: neither sees the other."""
    ordeal = cut(place)
    twin = Ordeal(place, ordeal.scenario, name="-of-the-copy")
    twin.experiment = Path(shutil.copytree(ordeal.experiment, place.path / "copy", symlinks=True))
    twin.phases = [*ordeal.phases]
    shutil.copytree(ordeal.books, twin.books)
    drivers = [(each, each.start("restore")) for each in (ordeal, twin)]
    for each, driver in drivers:
        each.end(driver, wait=False)
    assert place.wait_until_gone() == {}
    for each, _ in drivers:
        audit.finished(each)


def test_another_home(place: Any) -> None:
    """The default storage path of another user does not matter."""
    ordeal = cut(place)
    place.home = place.home.parent / "another home"
    place.home.mkdir()
    place.env["HOME"] = str(place.home)
    ordeal.restore()
    audit.finished(ordeal)
    assert list(place.home.iterdir()) == []


def test_another_node(place: Any) -> None:
    """Without the scratch directory of the first run, as on another machine."""
    ordeal = cut(place)
    shutil.rmtree(place.scratch)
    place.scratch.mkdir()
    ordeal.restore()
    audit.finished(ordeal)


@pytest.mark.parametrize("path", ["../there/results/exp", "results/../../there/results/exp/"])
def test_a_relative_storage_path(path: str, place: Any) -> None:
    """It is relative to where the process starts, the first time and the second."""
    ordeal = Ordeal(place, "function")
    ordeal.cwd = place.path / "there"
    ordeal.cwd.mkdir()
    ordeal.said = {"storage_path": "results"}
    ordeal.experiment = ordeal.cwd / "results" / subject.NAME
    assert ordeal.fit(MIDDLE).come
    ordeal.cwd = place.path / "here"
    (ordeal.cwd / "results").mkdir(parents=True)
    ordeal.said = {"path": path}
    ordeal.restore()
    audit.finished(ordeal)
    assert list((ordeal.cwd / "results").iterdir()) == []


def test_moved_between_all_restores(place: Any) -> None:
    """Killed and moved again and again, it still comes to its end."""
    ordeal = cut(place, "search")
    for number in range(3):
        ordeal.experiment = ordeal.experiment.rename(place.path / f"move-{number}")
        ordeal.restore(Moment("line", 12))
    ordeal.restore()
    audit.finished(ordeal)
