from __future__ import annotations

import multiprocessing
import os
import pickle
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pyarrow.fs
import pytest

from milepost.checkpoint import collect, read
from milepost.checkpoint.handle import Checkpoint
from milepost.errors import CorruptCheckpointError
from milepost.storage.filesystem import LocalFileSystem


@pytest.fixture(autouse=True)
def node_root(tmp_path_factory, monkeypatch) -> Path:
    """A node root and a temporary directory of the test's own."""
    root = tmp_path_factory.mktemp("node")
    monkeypatch.setenv("MILEPOST_NODE_ROOT", str(root / "root"))
    monkeypatch.setattr(tempfile, "tempdir", str(root))
    return root / "root"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory of the user's."""
    path = tmp_path / "source"
    (path / "nested" / "deep").mkdir(parents=True)
    (path / "model.bin").write_bytes(b"weights")
    (path / "nested" / "deep" / "run.sh").write_text("#!/bin/sh\n")
    (path / "nested" / "deep" / "run.sh").chmod(0o755)
    (path / "nested" / "hollow").mkdir()
    (path / "latest").symlink_to("model.bin")
    return path


def content(directory: str | Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in sorted(Path(directory).rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_file():
            found[name] = (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        else:
            found[name] = "directory"
    return found


# --- construction -------------------------------------------------------------------------------


def test_path_is_resolved_without_filesystem(monkeypatch):
    """Absolute paths, home directories and file URIs name a local directory."""
    monkeypatch.setenv("HOME", "/home/somebody")
    assert Checkpoint("/a/b").path == "/a/b"
    assert Checkpoint(Path("/a/b")).path == "/a/b"
    assert Checkpoint("~/b").path == "/home/somebody/b"
    assert Checkpoint("file:///a/with%20space").path == "/a/with space"


def test_relative_path_without_filesystem_is_an_error():
    """As in Ray, and the message says what to do."""
    with pytest.raises(ValueError, match=r"'models/a'.*from_directory"):
        Checkpoint("models/a")


def test_object_store_is_refused_by_name():
    """A URI that this version cannot store on is named in the error."""
    with pytest.raises(ValueError, match=r"s3://bucket/a.*cannot store on yet"):
        Checkpoint("s3://bucket/a")
    with pytest.raises(ValueError, match="not supported by this version"):
        Checkpoint("bucket/a", filesystem=pyarrow.fs.SubTreeFileSystem("/", LocalFS()))


def LocalFS() -> pyarrow.fs.LocalFileSystem:
    return pyarrow.fs.LocalFileSystem()


def test_from_directory_keeps_the_path_verbatim(tmp_path, monkeypatch):
    """No expansion, no resolution; a relative path is looked up when it is used."""
    assert Checkpoint.from_directory("~/x").path == "~/x"
    assert Checkpoint.from_directory("a/../b").path == "a/../b"
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    Path("here/file").write_text("1")
    checkpoint = Checkpoint.from_directory("here")
    with checkpoint.as_directory() as directory:
        assert directory == "here"
        assert os.listdir(directory) == ["file"]


def test_filesystem_is_pyarrows_when_it_is_installed(source):
    """Scripts for Ray find the object they expect; one they pass is kept."""
    assert Checkpoint.from_directory(source).filesystem == LocalFS()
    own = LocalFS()
    assert Checkpoint(str(source), filesystem=own).filesystem is own
    assert Checkpoint("kept/../verbatim", filesystem=own).path == "kept/../verbatim"


def test_pyarrow_is_not_imported_before_it_is_looked_at(source):
    """Without pyarrow there is a light object; importing and using a handle imports none of it."""
    code = (
        "import sys\n"
        "from milepost.checkpoint.handle import Checkpoint\n"
        "heavy = {'pyarrow', 'numpy', 'msgspec', 'xxhash', 'torch', 'cloudpickle'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        f"checkpoint = Checkpoint.from_directory({str(source)!r})\n"
        "assert repr(checkpoint).startswith('Checkpoint(filesystem=local, path=')\n"
        "checkpoint.to_directory()\n"
        "assert 'pyarrow' not in sys.modules\n"
        "sys.modules['pyarrow'] = None\n"
        "assert checkpoint.filesystem.type_name == 'local'\n"
        "assert checkpoint.filesystem == type(checkpoint.filesystem)()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_own_filesystem_equals_pyarrows():
    """The light object compares equal to what it stands for."""
    assert LocalFileSystem() == LocalFS()
    assert LocalFileSystem() != pyarrow.fs.SubTreeFileSystem("/", LocalFS())
    assert len({LocalFileSystem(), LocalFileSystem()}) == 1


def test_repr_identity_and_truth():
    """As in Ray: equality is identity, every checkpoint is true, the text names the path."""
    one, two = Checkpoint("/a"), Checkpoint("/a")
    assert repr(one) == "Checkpoint(filesystem=local, path=/a)"
    assert one != two
    assert one == one
    assert len({one, two}) == 2
    assert bool(one)


def test_pickle_keeps_what_it_refers_to(source):
    """A copy has the same path and the same default target, but is another object."""
    checkpoint = Checkpoint.from_directory(source, move=True)
    copy = pickle.loads(pickle.dumps(checkpoint))
    assert copy != checkpoint
    assert copy.path == checkpoint.path
    assert copy._move
    assert copy.to_directory() == checkpoint.to_directory()


class Mine(Checkpoint):
    """A user's subclass."""


def test_subclasses_survive(source):
    """from_directory and the constructor of a subclass give that subclass."""
    checkpoint = Mine.from_directory(source)
    assert type(checkpoint) is Mine
    again = checkpoint.__class__(filesystem=checkpoint.filesystem, path="/elsewhere")
    assert type(again) is Mine
    assert again.path == "/elsewhere"


def test_is_no_path():
    """Using it as a path is an error that says what to do."""
    with pytest.raises(TypeError, match="as_directory"):
        os.path.join(Checkpoint("/a"), "b")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "name",
    [
        "from_dict",
        "to_dict",
        "from_bytes",
        "to_bytes",
        "get_internal_representation",
        "from_uri",
        "to_uri",
        "uri",
        "get_preprocessor",
        "set_preprocessor",
    ],
)
def test_removed_names_explain_themselves(name):
    """On the class they say how to migrate; on objects they are plain missing attributes."""
    with pytest.raises(AttributeError, match="from_directory"):
        getattr(Checkpoint, name)
    with pytest.raises(AttributeError, match="'Checkpoint' object has no attribute"):
        getattr(Checkpoint("/a"), name)
    with pytest.raises(AttributeError, match="type object 'Checkpoint'"):
        Checkpoint.never_there  # noqa: B018


# --- to_directory -------------------------------------------------------------------------------


def test_copy_of_a_plain_directory(source, tmp_path):
    """Everything is copied: nested, empty directories, links as links, permission bits."""
    target = Checkpoint.from_directory(source).to_directory(tmp_path / "a" / "b" / "copy")
    assert target == str(tmp_path / "a" / "b" / "copy")
    assert content(target) == content(source)


def test_default_target_is_one_per_object(source):
    """Without an argument the same object always uses the same temporary directory."""
    checkpoint = Checkpoint.from_directory(source)
    target = checkpoint.to_directory()
    assert target == os.path.join(tempfile.gettempdir(), f"checkpoint_tmp_{checkpoint._uuid.hex}")
    assert checkpoint.to_directory() == target
    assert Checkpoint.from_directory(source).to_directory() != target


def test_repeating_overwrites_and_keeps_extras(source, tmp_path):
    """There is no "already downloaded": files are copied again, other files stay."""
    checkpoint = Checkpoint.from_directory(source)
    target = Path(checkpoint.to_directory(tmp_path / "copy"))
    (target / "extra").write_text("mine")
    (target / "model.bin").chmod(0o444)
    (source / "model.bin").write_bytes(b"new weights")
    checkpoint.to_directory(target)
    assert (target / "model.bin").read_bytes() == b"new weights"
    assert (target / "extra").read_text() == "mine"
    assert not [name for name in os.listdir(target) if name.startswith(".milepost")]


def test_home_and_dots_in_the_target(source, tmp_path, monkeypatch):
    """The target is normalised and ``~`` expanded, as in Ray."""
    monkeypatch.setenv("HOME", str(tmp_path))
    target = Checkpoint.from_directory(source).to_directory("~/x/../copy/")
    assert target == str(tmp_path / "copy")
    assert content(target) == content(source)


def test_missing_source_leaves_nothing(tmp_path):
    """A checkpoint that does not exist is an error, and no empty directory stays behind."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Checkpoint.from_directory(tmp_path / "nowhere").to_directory(tmp_path / "a" / "b")
    assert os.listdir(tmp_path) == []


def test_failed_copy_leaves_nothing(source, tmp_path, monkeypatch):
    """When copying fails half-way the target does not appear, nor do its new parents stay."""

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(read.posix, "copy_file", fail)
    monkeypatch.setattr(read.posix, "reflink", lambda *args: False)
    with pytest.raises(OSError, match="No space left"):
        Checkpoint.from_directory(source).to_directory(tmp_path / "a" / "b" / "copy")
    assert os.listdir(tmp_path) == ["source"]


def test_copy_of_a_committed_one(trial, save, tmp_path):
    """The manifest stays behind, so that the copy may be changed; metadata comes along."""
    checkpoint = Checkpoint.from_directory(save(trial, 0))
    checkpoint.set_metadata({"a": 1})
    target = checkpoint.to_directory(tmp_path / "copy")
    assert sorted(os.listdir(target)) == [".metadata.json", "model.bin", "state"]
    Path(target, "model.bin").write_bytes(b"changed")
    again = Checkpoint.from_directory(target)
    assert again.get_metadata() == {"a": 1}
    with again.as_directory() as directory:
        assert Path(directory, "model.bin").read_bytes() == b"changed"


def test_modes_come_from_the_manifest(trial, save, tmp_path):
    """A file that is read-only in storage, because it is shared, is not so in the copy."""
    directory = save(trial, 0)
    os.chmod(os.path.join(directory, "model.bin"), 0o444)
    target = Checkpoint.from_directory(directory).to_directory(tmp_path / "copy")
    assert stat.S_IMODE(os.stat(os.path.join(target, "model.bin")).st_mode) == 0o644


def test_sizes_are_verified(trial, save, tmp_path):
    """A file of another size is an error naming it, whichever way the checkpoint is read."""
    directory = save(trial, 0)
    os.truncate(os.path.join(directory, "model.bin"), 3)
    checkpoint = Checkpoint.from_directory(directory)
    with pytest.raises(CorruptCheckpointError, match=r"model\.bin has 3 bytes.*says 700"):
        checkpoint.to_directory(tmp_path / "copy")
    with pytest.raises(CorruptCheckpointError), checkpoint.as_directory():
        pass
    assert not (tmp_path / "copy").exists()


def test_bytes_are_verified_when_they_are_copied(trial, save, tmp_path):
    """A flipped byte is noticed while copying, and no copy appears."""
    directory = save(trial, 0)
    path = Path(directory, "model.bin")
    path.write_bytes(b"W" + path.read_bytes()[1:])
    if read.posix.reflink(str(path), str(tmp_path / "probe")):
        pytest.skip("this file system shares blocks, so no bytes are copied")
    with pytest.raises(CorruptCheckpointError, match="other bytes"):
        Checkpoint.from_directory(directory).to_directory(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_threads_copy_once(source, tmp_path, monkeypatch):
    """Of many threads that ask for one target one copies, the others wait for it."""
    copies = []
    started, go_on = threading.Event(), threading.Event()
    copy_new = read._copy_new

    def slow(*args: object) -> None:
        copies.append(threading.get_ident())
        started.set()
        go_on.wait()
        copy_new(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(read, "_copy_new", slow)
    checkpoint = Checkpoint.from_directory(source)
    results: list[str] = []
    threads = [
        threading.Thread(target=lambda: results.append(checkpoint.to_directory(tmp_path / "copy")))
        for _ in range(5)
    ]
    threads[0].start()
    started.wait()
    for thread in threads[1:]:
        thread.start()
    while sum(_is_waiting_for_lock(thread) for thread in threads[1:]) < 4:
        time.sleep(0.001)
    go_on.set()
    for thread in threads:
        thread.join()
    assert results == [str(tmp_path / "copy")] * 5
    assert len(copies) == 1
    assert content(tmp_path / "copy") == content(source)


def _is_waiting_for_lock(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and frame.f_code.co_name == "_acquire"


def _copy_in_process(path: str, target: str, queue: multiprocessing.SimpleQueue[str]) -> None:
    queue.put(Checkpoint.from_directory(path).to_directory(target))


def test_processes_copy_safely(source, tmp_path, node_root):
    """Several processes that copy to one target all get a whole copy, and leave no locks."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    target = str(tmp_path / "copy")
    processes = [
        context.Process(target=_copy_in_process, args=(str(source), target, queue))
        for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert [queue.get() for _ in processes] == [target] * 4
    assert content(target) == content(source)
    assert os.listdir(node_root / "locks") == []


def test_waiters_learn_of_a_failed_copy(source, tmp_path, monkeypatch):
    """When the one that copies fails, those that waited get an error, not a missing directory."""
    monkeypatch.setattr(read, "path_lock", _busy_lock)
    with pytest.raises(RuntimeError, match="call to_directory again"):
        Checkpoint.from_directory(source).to_directory(tmp_path / "copy")


class _busy_lock:
    def __init__(self, path: str) -> None:
        pass

    def __enter__(self) -> bool:
        return False

    def __exit__(self, *details: object) -> None:
        pass


# --- as_directory -------------------------------------------------------------------------------


def test_as_directory_gives_the_directory_itself(source):
    """No copy is made and nothing is deleted."""
    checkpoint = Checkpoint.from_directory(str(source))
    with checkpoint.as_directory() as directory:
        assert directory == str(source)
    assert source.exists()


def test_as_directory_of_nothing(tmp_path):
    """A directory that does not exist is an error at once."""
    checkpoint = Checkpoint.from_directory(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere"), checkpoint.as_directory():
        pass


def test_a_file_is_no_checkpoint(tmp_path):
    """The error says that the path is a file and a directory is meant; nothing is created."""
    file = tmp_path / "model.pt"
    file.write_text("weights")
    given = Checkpoint.from_directory(file)
    with pytest.raises(NotADirectoryError, match="this is a file") as caught, given.as_directory():
        pass
    assert caught.value.filename == str(file)
    with pytest.raises(NotADirectoryError, match="this is a file"):
        given.to_directory(tmp_path / "copy")
    assert os.listdir(tmp_path) == ["model.pt"]


def test_a_reader_holds_the_checkpoint(trial, save):
    """While it is open, also twice, the checkpoint cannot be collected; afterwards it can."""
    directory = save(trial, 0)
    checkpoint = Checkpoint.from_directory(directory)
    with checkpoint.as_directory(), pickle.loads(pickle.dumps(checkpoint)).as_directory():
        assert collect.retire(directory) is collect.Retirement.BUSY
    assert collect.retire(directory) is collect.Retirement.DELETED
    with pytest.raises(FileNotFoundError), checkpoint.as_directory():
        pass


def test_forked_processes_do_not_matter(trial, save):
    """A child forked while it is open neither releases it by ending, nor holds it afterwards."""
    directory = save(trial, 0)
    reader = Checkpoint.from_directory(directory).as_directory()
    reader.__enter__()
    short = os.fork()
    if short == 0:
        reader.__exit__(None, None, None)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(short, 0)[1]) == 0
    assert collect.retire(directory) is collect.Retirement.BUSY
    read_end, write_end = os.pipe()
    long = os.fork()
    if long == 0:
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    reader.__exit__(None, None, None)
    assert collect.retire(directory) is collect.Retirement.DELETED
    os.close(write_end)
    os.waitpid(long, 0)
    os.close(read_end)


def test_an_exception_releases_it(trial, save):
    """Leaving the block by an exception releases the checkpoint too."""
    directory = save(trial, 0)
    with pytest.raises(ZeroDivisionError), Checkpoint.from_directory(directory).as_directory():
        _ = 1 / 0
    assert collect.retire(directory) is collect.Retirement.DELETED


def test_renamed_away_while_waiting(trial, save, monkeypatch):
    """A checkpoint that is collected between opening and locking it is gone, not half there."""
    directory = save(trial, 0)
    flock = read.fcntl.flock

    def collect_first(fd: int, operation: int) -> None:
        monkeypatch.setattr(read.fcntl, "flock", flock)
        assert collect.retire(directory) is collect.Retirement.DELETED
        flock(fd, operation)

    monkeypatch.setattr(read.fcntl, "flock", collect_first)
    with pytest.raises(FileNotFoundError), Checkpoint.from_directory(directory).as_directory():
        pass


def test_without_locks_it_can_still_be_read(trial, save, monkeypatch):
    """On a file system without locks reading works, unprotected."""

    def refuse(fd: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(read.fcntl, "flock", refuse)
    with Checkpoint.from_directory(save(trial, 0)).as_directory() as directory:
        assert "model.bin" in os.listdir(directory)


# --- metadata -----------------------------------------------------------------------------------


def test_metadata(source):
    """Absent is empty; set replaces; update merges the first level; it is plain JSON in a file."""
    checkpoint = Checkpoint.from_directory(source)
    assert checkpoint.get_metadata() == {}
    checkpoint.set_metadata({"a": {"x": 1}, "b": 2})
    checkpoint.update_metadata({"a": {"y": 2}})
    assert checkpoint.get_metadata() == {"a": {"y": 2}, "b": 2}
    assert (source / ".metadata.json").read_text() == '{"a": {"y": 2}, "b": 2}'
    checkpoint.set_metadata({"c": 3})
    assert checkpoint.get_metadata() == {"c": 3}


def test_metadata_of_a_missing_directory(tmp_path):
    """As in Ray, reading gives an empty dict; writing fails."""
    checkpoint = Checkpoint.from_directory(tmp_path / "nowhere")
    assert checkpoint.get_metadata() == {}
    with pytest.raises(FileNotFoundError):
        checkpoint.set_metadata({"a": 1})


def test_metadata_that_json_cannot_hold(source):
    """The error comes before anything is written."""
    checkpoint = Checkpoint.from_directory(source)
    checkpoint.set_metadata({"a": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        checkpoint.update_metadata({"b": object()})
    assert checkpoint.get_metadata() == {"a": 1}


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_damaged_metadata_is_named(source, text):
    """A file that holds no JSON object is an error with its path."""
    (source / ".metadata.json").write_text(text)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Checkpoint.from_directory(source).get_metadata()
    notes = [str(caught.value), *getattr(caught.value, "__notes__", [])]
    assert any(".metadata.json" in note for note in notes)


def test_concurrent_updates_lose_nothing(source):
    """Many threads that each add a key end with all keys."""
    checkpoint = Checkpoint.from_directory(source)
    threads = [
        threading.Thread(target=checkpoint.update_metadata, args=({f"key{number}": number},))
        for number in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert checkpoint.get_metadata() == {f"key{number}": number for number in range(16)}


def test_metadata_of_a_committed_one_keeps_it_valid(trial, save):
    """Metadata is not part of what the manifest lists."""
    directory = save(trial, 0)
    checkpoint = Checkpoint.from_directory(directory)
    checkpoint.set_metadata({"a": 1})
    with checkpoint.as_directory():
        assert checkpoint.get_metadata() == {"a": 1}
