"""Checkpoints under names of their own, without a copy, and by functions of the user's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from loops import part, rank, trainer

from milepost import train
from milepost.checkpoint import manifest as manifests
from milepost.checkpoint import verify
from milepost.errors import CaptureError
from milepost.train import Checkpoint, CheckpointUploadMode, Result, collective
from milepost.worker import placing

NO_UPLOAD = CheckpointUploadMode.NO_UPLOAD


def home() -> Path:
    """The run's directory."""
    return Path(train.get_context().get_storage().trial_path)


def left(name: str, **files: str) -> Checkpoint:
    """A directory with files in the run's directory; another worker may have made it."""
    directory = home() / name
    directory.mkdir(parents=True, exist_ok=True)
    for each, text in files.items():
        (directory / each).write_text(text)
    return Checkpoint.from_directory(str(directory))


def committed(run: Path) -> dict[str, int]:
    """Names and numbers of the run's checkpoints, each of which must be good."""
    found = {manifest.directory: index for index, manifest in verify.committed(str(run))}
    assert not any(verify.check(str(run / name), digests=True) for name in found)
    return found


def named(config: dict[str, Any]) -> None:
    """Reports under names; ``config["names"]`` has them, None for the usual one."""
    for step, name in enumerate(config["names"]):
        checkpoint = part(**{f"step-{rank()}": str(step)})
        own = name if rank() == 0 else "not asked"
        train.report({"step": step, "score": step % 3}, checkpoint, own)
        assert Path(train.get_checkpoint().path, "step-1").read_text() == str(step)


def test_names(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Rank 0's name counts on all ranks; one that is taken gets a number, and it is said once."""
    asked = ["best", None, "best", "result.json", "checkpoint_000005", None, "best", None]
    result = trainer(tmp_path, named, train_loop_config={"names": asked}).fit()
    got = [
        "best",
        "checkpoint_000001",
        "best-1",
        "result.json-1",
        "checkpoint_000005",
        "checkpoint_000005-1",
        "best-2",
        "checkpoint_000007",
    ]
    assert committed(tmp_path / "run") == {name: index for index, name in enumerate(got)}
    assert [Path(c.path).name for c, _ in result.best_checkpoints] == got
    assert list(result.metrics_dataframe["checkpoint_dir_name"]) == got
    again = Result.from_path(str(tmp_path / "run"))
    assert [c.path for c, _ in again.best_checkpoints] == [
        c.path for c, _ in result.best_checkpoints
    ]
    told = capfd.readouterr().err
    assert told.count("best is taken in") == 1
    assert told.count("result.json is taken in") == 1


def test_what_is_there_stays(tmp_path: Path) -> None:
    """A file or directory of the user's in the run's directory is never replaced."""

    def loop(config: dict[str, Any]) -> None:
        for name in ("notes", "data", "kept"):
            train.report({}, part(a="1"), name, CheckpointUploadMode.SYNC)

    run = tmp_path / "run"
    first = trainer(tmp_path, loop, workers=0, train_loop_config={})
    first.fit()
    for name in ("notes", "data"):
        shutil.rmtree(run / name)
    (run / "notes").write_text("mine")
    (run / "data").mkdir()
    again = first.fit()
    assert committed(run) == {"kept": 2, "notes-1": 3, "data-1": 4, "kept-1": 5}
    names = [Path(checkpoint.path).name for checkpoint, _ in again.best_checkpoints]
    assert names == ["kept", "notes-1", "data-1", "kept-1"]
    assert (run / "notes").read_text() == "mine"
    assert list((run / "data").iterdir()) == []


def resumable(config: dict[str, Any]) -> str:
    """Reports under a name, in place if so told; then it, or who is named, is killed."""
    checkpoint = train.get_checkpoint()
    if checkpoint is not None:
        return Path(checkpoint.path).name
    if config["mode"] is NO_UPLOAD:
        train.report({}, left("here", a="1" * config["size"]), "mine", NO_UPLOAD)
    else:
        train.report({}, part(a="1" * config["size"]), "mine", config["mode"])
    if config["dies"] is not None:
        os.kill(config["dies"] or os.getpid(), signal.SIGKILL)
    return ""


@pytest.mark.always("NO_UPLOAD-1")
@pytest.mark.parametrize("size", [1, 2 << 20])
@pytest.mark.parametrize("mode", [None, NO_UPLOAD], ids=["usual", "NO_UPLOAD"])
def test_killed_right_after_the_report(tmp_path: Path, mode: Any, size: int) -> None:
    """The checkpoint is found under its name, and the run goes on from it."""
    config = {"mode": mode, "size": size, "dies": 0}
    made = trainer(tmp_path, resumable, workers=1, max_failures=1, train_loop_config=config)
    result = made.fit()
    assert result.return_value == "mine"
    assert committed(tmp_path / "run") == {"mine": 0}
    assert Path(result.checkpoint.path, "a").stat().st_size == size
    assert not (tmp_path / "run" / "here").exists()


DRIVER = """
import os, sys
sys.path.insert(0, {here!r})
import cloudpickle, loops, test_names
from pathlib import Path
for each in (loops, test_names):
    cloudpickle.register_pickle_by_value(each)
mode = test_names.NO_UPLOAD if {in_place} else None
config = {{"mode": mode, "size": {size}, "dies": os.getpid()}}
loops.trainer(Path({root!r}), test_names.resumable, workers=1, train_loop_config=config).fit()
"""


@pytest.mark.chaos
@pytest.mark.parametrize("size", [1, 2 << 20])
@pytest.mark.parametrize("in_place", [False, True])
def test_the_driver_is_killed(tmp_path: Path, in_place: bool, size: int) -> None:
    """The journal never heard of the commit: the checkpoint is found by its manifest."""
    here = str(Path(__file__).parent)
    script = DRIVER.format(here=here, in_place=in_place, size=size, root=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    config = {"mode": None, "size": size, "dies": None}
    result = trainer(tmp_path, resumable, workers=1, train_loop_config=config).fit()
    assert result.return_value == "mine"
    assert committed(tmp_path / "run") == {"mine": 0}


@pytest.mark.always("journal")
@pytest.mark.parametrize("lost", ["nothing", "journal", "identity"])
def test_moved_and_found_again(tmp_path: Path, lost: str) -> None:
    """A run with names goes on in another place, also without its journal."""
    config = {"mode": None, "size": 1, "dies": None}
    trainer(tmp_path, resumable, workers=1, train_loop_config=config).fit()
    moved = tmp_path / "elsewhere" / "run"
    shutil.move(tmp_path / "run", moved)
    if lost == "journal":
        shutil.rmtree(moved / ".milepost" / "journal")
    elif lost == "identity":
        (moved / ".milepost" / "experiment.json").unlink()
    result = trainer(moved.parent, resumable, workers=1, train_loop_config=config).fit()
    assert result.return_value == "mine"
    assert result.checkpoint.path == str(moved / "mine")


def test_retention(tmp_path: Path) -> None:
    """Checkpoints with names are ranked and deleted like others."""
    keep = {"num_to_keep": 2, "checkpoint_score_attribute": "score"}
    names = ["a", "b", "c", None, "a", "b"]  # the scores are 0, 1, 2, 0, 1, 2
    config = {"names": names}
    result = trainer(tmp_path, named, keep=keep, train_loop_config=config).fit()
    assert committed(tmp_path / "run") == {"c": 2, "b-1": 5}
    assert [Path(c.path).name for c, _ in result.best_checkpoints] == ["c", "b-1"]


def shared(config: dict[str, Any]) -> None:
    """Two workers write into one directory, and leave it where it is."""
    for step, (place, name) in enumerate(config["reports"]):
        checkpoint = left(place, **{f"shard-{rank()}": str(step)})
        inode = os.stat(checkpoint.path).st_ino
        collective.barrier()
        train.report({}, checkpoint, name, NO_UPLOAD, rank() == 0)
        found = Path(train.get_checkpoint().path)
        assert {each.name for each in found.glob("shard-*")} == {"shard-0", "shard-1"}
        assert os.stat(found).st_ino == inode


def test_one_directory_of_two_workers(tmp_path: Path) -> None:
    """It becomes the checkpoint itself, once, under its own name or the one that is given."""
    reports = [("epoch-1", None), ("tmp/epoch-2", None), ("x", "y"), ("z", "z"), ("y", "z")]
    result = trainer(tmp_path, shared, train_loop_config={"reports": reports[:4]}).fit()
    run = tmp_path / "run"
    assert committed(run) == {"epoch-1": 0, "epoch-2": 1, "y": 2, "z": 3}
    assert sorted(each.name for each in run.iterdir() if each.is_dir()) == [
        ".milepost",
        "epoch-1",
        "epoch-2",
        "tmp",
        "y",
        "z",
    ]
    assert result.metrics["checkpoint_dir_name"] == "z"


@pytest.mark.chaos
def test_directories_of_several_workers(tmp_path: Path) -> None:
    """Each brings its own; one within another is refused on all ranks, and nothing is lost."""

    def loop(config: dict[str, Any]) -> None:
        inner = left(f"parts/{rank()}", **{f"shard-{rank()}": "1"})
        outer = left("parts")
        collective.barrier()
        with pytest.raises(ValueError, match=r"rank 1 reports .*/parts/1, which lies in .*/parts"):
            train.report({}, inner if rank() else outer, None, NO_UPLOAD)
        train.report({}, inner, "whole", NO_UPLOAD)
        assert train.get_checkpoint().path == str(home() / "whole")

    trainer(tmp_path, loop, train_loop_config={}).fit()
    assert committed(tmp_path / "run") == {"whole": 0}
    manifest = manifests.read(tmp_path / "run" / "whole")
    assert [part.paths for part in manifest.parts] == [["shard-0"], ["shard-1"]]


def test_upload_functions(tmp_path: Path) -> None:
    """They are called with the agreed name by those that bring a part; what they return counts."""

    def loop(config: dict[str, Any]) -> None:
        def upload(checkpoint: Checkpoint, name: str) -> Checkpoint:
            seen.append(name)
            storage = train.get_context().get_storage()
            target = storage.build_checkpoint_path_from_name(f"{name}.{rank()}")
            shutil.copytree(checkpoint.path, target)
            return Checkpoint.from_directory(target)

        seen: list[str] = []
        for name in ("up", "up", None):
            source = part(**{f"shard-{rank()}": "1"})
            train.report({}, source, name, None, rank() == 0, upload)
            assert Path(source.path).exists() == (rank() == 1)
            assert sorted(os.listdir(train.get_checkpoint().path))[-2:] == ["shard-0", "shard-1"]
        train.report({}, part(a="1") if rank() else None, checkpoint_upload_fn=upload)
        assert seen == ["up", "up-1", "checkpoint_000002", "checkpoint_000003"][: 3 + rank()]

    trainer(tmp_path, loop, train_loop_config={}).fit()
    names = ["up", "up-1", "checkpoint_000002", "checkpoint_000003"]
    assert committed(tmp_path / "run") == {name: index for index, name in enumerate(names)}


def test_an_upload_to_the_final_name(tmp_path: Path) -> None:
    """A function may write where the checkpoint will be; nothing of that is deleted."""

    def loop(config: dict[str, Any]) -> None:
        def upload(checkpoint: Checkpoint, name: str) -> Checkpoint:
            return left(name, a=name)

        train.report(
            {},
            Checkpoint.from_directory(str(home() / "final")),
            "final",
            CheckpointUploadMode.SYNC,
            delete_local_checkpoint_after_upload=True,
            checkpoint_upload_fn=upload,
        )
        assert (home() / "final" / "a").read_text() == "final"

    trainer(tmp_path, loop, workers=0, train_loop_config={}).fit()
    assert committed(tmp_path / "run") == {"final": 0}


def test_upload_functions_that_fail(tmp_path: Path) -> None:
    """Nothing is reported by any worker; the error names the function; the next report works."""

    def loop(config: dict[str, Any]) -> None:
        def breaks(checkpoint: Checkpoint, name: str) -> Checkpoint:
            if rank() == 1:
                raise OSError(28, "no room")
            return left(name, a="1")

        def strays(checkpoint: Checkpoint, name: str) -> Checkpoint:
            return checkpoint

        def forgets(checkpoint: Checkpoint, name: str) -> None:
            left(name, a="1")

        def attempt(upload: Any) -> None:
            train.report({"failed": 1}, part(a="1"), checkpoint_upload_fn=upload)

        if rank() == 0:
            with pytest.raises(CaptureError, match=r"of rank 1 failed .OSError: .*no room"):
                attempt(breaks)
        else:
            with pytest.raises(OSError, match="no room") as caught:
                attempt(breaks)
            assert "breaks" in caught.value.__notes__[0]
        with pytest.raises(ValueError, match=r"strays.* is not in the run's directory"):
            attempt(strays)
        with pytest.raises(ValueError, match=r"forgets.* returned None, which is no Checkpoint"):
            attempt(forgets)
        train.report({"failed": 0}, part(a="1"))

    result = trainer(tmp_path, loop, train_loop_config={}).fit()
    assert committed(tmp_path / "run") == {"checkpoint_000000-2": 0}
    assert (tmp_path / "run" / "checkpoint_000000" / "a").exists()
    assert list(result.metrics_dataframe["failed"]) == [0]


BAD_NAMES = {
    "": "is empty",
    ".": "begins with a dot",
    "..": "begins with a dot",
    ".hidden": "begins with a dot",
    "a/b": "is not one part of a path",
    "../x": "is not one part of a path",
    "a\0b": "is not one part of a path",
    "x" * 201: "has 201 bytes",
    "\u00fc" * 101: "has 202 bytes",
    "\ud800": "is not UTF-8",
}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names(name: str) -> None:
    """They are refused, with the value and what to do; so is what is no string."""
    with pytest.raises(ValueError, match=BAD_NAMES[name]) as caught:
        placing.check_name(name, "it")
    assert repr(name) in str(caught.value)
    assert "Give the plain name of a directory" in str(caught.value)
    assert placing.check_name("x" * 200, "it") == "x" * 200
    with pytest.raises(TypeError, match="must be a string, got 3"):
        placing.check_name(3, "it")


PLACES = {
    ".": "is the run's own directory, or holds it",
    "..": "is the run's own directory, or holds it",
    "../beside": "is not in the run's directory",
    "link": "is not in the run's directory",
    ".milepost/objects": "is where Milepost keeps its own files",
    "a/.milepost-tmp-x/b": "is where Milepost keeps its own files",
    "done": "is a committed checkpoint already",
    "done/part": "is a committed checkpoint already, or part of one",
}


@pytest.mark.parametrize("path", PLACES)
def test_bad_places(tmp_path: Path, path: str) -> None:
    """What is not to be copied must be a directory of its own in the run's."""
    run = tmp_path / "run"
    (run / "done" / "part").mkdir(parents=True)
    (run / "done" / manifests.MANIFEST_NAME).touch()
    (run / "link").symlink_to(tmp_path / "beside")
    with pytest.raises(ValueError, match=PLACES[path]) as caught:
        placing.inside(str(run / path), str(run), "it")
    assert f"below {run}" in str(caught.value)
    assert placing.inside(str(run / "a" / "b"), str(run), "it") == str(run / "a" / "b")


def test_bad_options(tmp_path: Path) -> None:
    """Options that cannot take effect are errors, before anything is done."""

    def loop(config: dict[str, Any]) -> None:
        for options, kind, text in (
            ({"checkpoint_dir_name": "a/b"}, ValueError, "is not one part of a path"),
            ({"checkpoint_dir_name": 3}, TypeError, "must be a string"),
            ({"checkpoint_upload_fn": 3}, TypeError, "must be a function"),
            (
                {"checkpoint_upload_fn": print, "checkpoint_upload_mode": NO_UPLOAD},
                ValueError,
                "would not be called with NO_UPLOAD",
            ),
            ({"checkpoint_upload_mode": NO_UPLOAD}, ValueError, "is not in the run's directory"),
        ):
            with pytest.raises(kind, match=text):
                train.report({}, part(a="1"), **options)
        with pytest.raises(ValueError, match=r"the name of .*, which is kept, begins with a dot"):
            train.report({}, left(".hidden"), None, NO_UPLOAD)
        strange = left("strange", a="1")
        Path(strange.path, "out").symlink_to("/etc/hostname")
        with pytest.raises(CaptureError, match="out in it is a symbolic link that leads out"):
            train.report({}, strange, None, NO_UPLOAD)
        train.report({}, part(a="1"))

    trainer(tmp_path, loop, workers=0, train_loop_config={}).fit()
    assert committed(tmp_path / "run") == {"checkpoint_000001": 1}
    assert (tmp_path / "run" / "strange" / "a").read_text() == "1"
