"""What workers say of a report, what follows from it, and the names that are free."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from milepost.worker.agreement import Part, bringing, decode
from milepost.worker.placing import Names


@pytest.mark.parametrize(
    ("part", "size"),
    [
        (Part(), 1),
        (Part(brings=True, awaits=True), 1),
        (Part(uploads=True, name="ü"), 5),
        (Part(brings=True, path="/run/\udcff", error="E: \ud800\0\0"), None),
        (Part(True, True, True, "name", "/path", "error"), None),
    ],
)
def test_notes(part: Part, size: int | None) -> None:
    """What is said arrives; without texts it is one byte."""
    note = part.encode()
    assert decode(note) == part
    assert size in (None, len(note))


COPIED, NOTHING = Part(brings=True), Part()


def there(path: str) -> Part:
    return Part(brings=True, path=path)


@pytest.mark.parametrize(
    ("parts", "ranks"),
    [
        ([NOTHING, NOTHING], ()),
        ([COPIED, NOTHING, COPIED], (0, 2)),
        ([there("/r/a"), there("/r/a"), there("/r/a")], (0,)),
        ([NOTHING, there("/r/a"), there("/r/b"), there("/r/a"), COPIED], (1, 2, 4)),
        ([there("/r/a"), there("/r/ab")], (0, 1)),
        ([Part(path="/r/a"), there("/r/a")], (1,)),
    ],
)
def test_who_brings(parts: list[Part], ranks: tuple[int, ...]) -> None:
    """Everybody who has a part; of those with the same directory, the lowest."""
    assert bringing(parts) == ranks


def test_one_directory_in_another() -> None:
    """It cannot become a checkpoint of its own."""
    with pytest.raises(ValueError, match="rank 0 reports /r/a/b, which lies in /r/a of rank 2"):
        bringing([there("/r/a/b"), COPIED, there("/r/a")])


def test_free_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A taken name gets the next number that is free; what is only asked for is not taken."""
    names = Names(str(tmp_path), is_first=True)
    assert names.free(0, "best") == names.free(0, "best") == "best"
    names.use("best", 0, "best")
    (tmp_path / "best-1").touch()
    (tmp_path / "best-2").symlink_to("nowhere")
    assert names.free(1, "best") == "best-3"
    names.use("best-3", 1, "best")
    assert names.free(2, "best", str(tmp_path / "best")) == "best-4"
    names.use("best-4", 2, "best")
    assert len([line for line in caplog.messages if "best is taken" in line]) == 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_the_directory_itself_is_not_in_its_way(tmp_path: Path) -> None:
    """What becomes the checkpoint keeps its name, by whatever path the run is known."""
    (tmp_path / "run" / "here").mkdir(parents=True)
    (tmp_path / "link").symlink_to("run")
    names = Names(str(tmp_path / "link"), is_first=True)
    assert names.free(0, "here", str(tmp_path / "run" / "here")) == "here"
    assert names.free(0, "here", str(tmp_path / "run" / "there")) == "here-1"


def test_the_usual_name(tmp_path: Path) -> None:
    """Nobody looks for it where nothing can have it: neither names nor an attempt before."""
    usual = "checkpoint_000003"
    (tmp_path / usual).mkdir()
    assert Names(str(tmp_path), is_first=True).free(3) == usual
    assert Names(str(tmp_path), is_first=False).free(3) == f"{usual}-1"
    names = Names(str(tmp_path), is_first=True)
    names.use("other", 2, "other")
    assert names.free(3) == f"{usual}-1"
    names = Names(str(tmp_path), is_first=True)
    names.look()
    assert names.free(3) == f"{usual}-1"


@pytest.mark.parametrize("name", ["result.json", "params.pkl", "error.txt"])
def test_names_of_our_own_files(tmp_path: Path, name: str) -> None:
    """They are taken before the files are there."""
    assert Names(str(tmp_path), is_first=True).free(0, name) == f"{name}-1"
