"""Each way to capture, forced, and what a user may do with the directory right afterwards."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import shutil
import stat
import tempfile
import threading
from pathlib import Path

import pytest

from milepost.checkpoint.collect import Retirement, retire
from milepost.errors import CaptureError, CheckpointFailedError
from milepost.keeper.protocol import Committed
from milepost.keeper.wire import MOST_DESCRIPTORS
from milepost.storage import posix

BIG = 3 << 20


def save(path, data: bytes) -> None:
    path.write_bytes(data)


def test_small_checkpoints_are_copied_without_a_keeper(place, capturer):
    """Eight files of one mebibyte in all are captured before any keeper has been started."""
    files = {f"file{number}": 128 << 10 for number in range(8)}
    source = place.source(**files)
    before = place.contents(source)
    capture = capturer.capture(source, 0, b'{"loss": 1}', iteration=3)
    assert capture.ways == {"copied": 8}
    assert (capture.nbytes, capture.waited_s) == (1 << 20, 0.0)
    shutil.rmtree(source)
    assert capturer.settled(0) == str(place.checkpoint(0))
    assert place.contents(place.checkpoint(0)) == before


@pytest.mark.parametrize(
    "files", [{"a": (1 << 20) + 1}, {f"file{number}": 10 for number in range(9)}]
)
def test_large_checkpoints_are_leased(place, capturer, files):
    """One byte or one file more, and the files are linked and leased."""
    source = place.source(**files)
    before = place.contents(source)
    assert capturer.capture(source, 0, b"{}").ways == {"leased": len(files)}
    shutil.rmtree(source)
    capturer.settled(0)
    assert place.contents(place.checkpoint(0)) == before


def test_committed_source_is_not_collected_meanwhile(place, capturer, monkeypatch):
    """Retention cannot take a checkpoint that is reported again; afterwards it can."""
    capturer.capture(place.source(big=b"b" * BIG), 0, b"{}")
    committed = capturer.settled(0)
    found = []
    link = posix.link

    def link_after_a_try(source: str, target: str) -> None:
        found.append(retire(committed))
        link(source, target)

    monkeypatch.setattr(posix, "link", link_after_a_try)
    capturer.capture(committed, 1, b"{}")
    assert found == [Retirement.BUSY]
    assert retire(committed) is Retirement.DELETED
    capturer.settled(1)
    assert place.contents(place.checkpoint(1)) == {"big": b"b" * BIG}


def test_source_stays_as_it_was(place, capturer):
    """The directory can be read after the report, and after the commit; nothing in it changed."""
    source = place.source(big=BIG, small=b"text")
    (source / "big").chmod(0o640)
    before = {path.name: (path.read_bytes(), path.stat().st_mode) for path in source.iterdir()}
    capturer.capture(source, 0, b"{}")
    after = {path.name: (path.read_bytes(), path.stat().st_mode) for path in source.iterdir()}
    assert after == before
    capturer.settled(0)
    after = {path.name: (path.read_bytes(), path.stat().st_mode) for path in source.iterdir()}
    assert after == before
    assert place.contents(place.checkpoint(0)) == place.contents(source)
    for name in ("big", "small"):
        committed, kept = place.checkpoint(0) / name, source / name
        assert committed.stat().st_ino != kept.stat().st_ino, "they must not share an inode"


def overwrite(path):
    with open(path, "wb") as file:
        file.write(b"new" * 100_000)


def patch(path):
    with open(path, "r+b") as file:
        file.seek(1 << 20)
        file.write(b"patched")


def cut(path):
    os.truncate(path, 10)


def append(path):
    with open(path, "ab") as file:
        file.write(b"more")


def scribble(path):
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[:5] = b"mmap!"


def put_in_its_place(path):
    path.with_suffix(".new").write_bytes(b"replacement")
    os.replace(path.with_suffix(".new"), path)


@pytest.mark.parametrize(
    "change", [overwrite, patch, cut, append, scribble, put_in_its_place, os.unlink]
)
def test_changes_right_after_a_capture(place, capturer, change):
    """Whatever is done to a captured file, the bytes of the moment of the capture are committed."""
    source = place.source(model=BIG, other=BIG)
    before = place.contents(source)
    assert capturer.capture(source, 0, b"{}").ways == {"leased": 2}
    change(source / "model")
    capturer.settled(0)
    assert place.contents(place.checkpoint(0)) == before


def test_one_directory_for_all_checkpoints(place, capturer):
    """A script that keeps one TemporaryDirectory and overwrites its files gets each state."""
    states = []
    with tempfile.TemporaryDirectory(dir=place.path) as directory:
        for index in range(5):
            states.append(os.urandom(BIG))
            with open(os.path.join(directory, "model"), "wb") as file:
                file.write(states[-1])
            with open(os.path.join(directory, "log"), "a") as file:
                file.write(f"{index}\n")
            capturer.capture(directory, index, b"{}")
        assert sorted(os.listdir(directory)) == ["log", "model"]
    for index, state in enumerate(states):
        capturer.settled(index)
        assert (place.checkpoint(index) / "model").read_bytes() == state
        log = "".join(f"{line}\n" for line in range(index + 1))
        assert (place.checkpoint(index) / "log").read_text() == log


def test_writer_before_the_announcement(place, capturer):
    """A writer that comes while the report is not answered yet waits until the keeper is told."""
    source = place.source(model=BIG)
    before = place.contents(source)
    capturer.capture(source, 0, b"{}", announce=False)
    writer = threading.Thread(target=overwrite, args=[source / "model"])
    writer.start()
    capturer.announce()
    capturer.settled(0)
    writer.join()
    assert place.contents(place.checkpoint(0)) == before
    assert place.contents(source) != before


def held_in(directory) -> list[str]:
    """Files below a directory that this process has open."""
    named = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            named.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [name for name in named if name.startswith(f"{directory}/staging/")]


def test_more_leases_than_one_message_carries(place, capturer):
    """Leases go to the keeper in several messages, and every file is safe against writers."""
    source = place.source(**{f"part{number}": 3000 for number in range(2 * MOST_DESCRIPTORS + 1)})
    before = (source / "part0").read_bytes(), (source / "part400").read_bytes()
    captured = capturer.capture(source, 0, b"{}", announce=False)
    assert captured.ways == {"leased": 2 * MOST_DESCRIPTORS + 1}
    assert 0 < len(held_in(place.node_root)) <= MOST_DESCRIPTORS
    capturer.announce()
    assert held_in(place.node_root) == []
    for name in ("part0", "part400"):
        (source / name).write_bytes(b"overwritten")
    path = Path(capturer.settled(0))
    assert ((path / "part0").read_bytes(), (path / "part400").read_bytes()) == before


def test_open_writer_means_copy(place, capturer):
    """A file that somebody has open for writing is copied, the others are not."""
    source = place.source(model=BIG, log=BIG)
    with open(source / "log", "ab") as log:
        log.write(b"flushed")
        log.flush()
        before = place.contents(source)
        assert capturer.capture(source, 0, b"{}").ways == {"leased": 1, "copied": 1}
        log.write(b"later")
    capturer.settled(0)
    assert place.contents(place.checkpoint(0)) == before


def test_writable_map_means_copy(place, capturer):
    """A file that is mapped for writing is copied, although it is closed; stores do not get in."""
    source = place.source(model=BIG)
    with open(source / "model", "r+b") as file:
        view = mmap.mmap(file.fileno(), 0)
    with view:
        view[:6] = b"before"
        before = place.contents(source)
        assert capturer.capture(source, 0, b"{}").ways == {"copied": 1}
        view[:6] = b"after!"
        capturer.settled(0)
    assert place.contents(place.checkpoint(0)) == before


def test_several_links(place, capturer):
    """A file with another name elsewhere is not shared with the checkpoint."""
    source = place.source(model=BIG)
    cache = place.path / "cache"
    os.link(source / "model", cache)
    before = place.contents(source)
    assert capturer.capture(source, 0, b"{}").ways == {"leased": 1}
    shutil.rmtree(source)
    with open(cache, "r+b") as file:
        file.write(b"the cache is rewritten")
    capturer.settled(0)
    assert place.contents(place.checkpoint(0)) == before
    assert os.stat(cache).st_nlink == 1


def test_other_file_system(place, capturer, mount):
    """From another file system nothing is copied either before the report goes on."""
    disk = mount("tmpfs", 64 << 20)
    source = disk / "source"
    source.mkdir()
    (source / "model").write_bytes(os.urandom(BIG))
    before = place.contents(source)
    assert capturer.capture(source, 0, b"{}").ways == {"leased": 1}
    overwrite(source / "model")
    capturer.settled(0)
    assert place.contents(place.checkpoint(0)) == before


def test_where_only_copying_is_possible(place, capturer, mount):
    """A mount point itself has no directory of its file system beside it, so it is copied."""
    disk = mount("tmpfs", 64 << 20)
    for number in range(4):
        (disk / f"file{number}").write_bytes(os.urandom(BIG))
    before = place.contents(disk)
    for index in range(2):
        assert capturer.capture(disk, index, b"{}").ways == {"copied": 4}
    capturer.settled(1)
    assert place.contents(place.checkpoint(0)) == place.contents(place.checkpoint(1)) == before


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_reflink(place, driver, mount, kind):
    """Where a lease is refused and the file system shares blocks, no bytes are copied."""
    disk = mount(kind, 400 << 20)
    source = disk / "source"
    source.mkdir()
    with open(source / "model", "wb") as writer:
        writer.write(os.urandom(BIG))
        writer.flush()
        before = place.contents(source)
        capturer = place.capturer(driver)
        assert capturer.capture(source, 0, b"{}").ways == {"reflink": 1}
        writer.write(b"later")
    capturer.settled(0)
    assert place.contents(place.checkpoint(0)) == before


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_unchanged_files_are_stored_once(place, mount, kind):
    """What did not change since the checkpoint before takes no room again; each is whole."""
    disk = mount(kind, 400 << 20)
    place.experiment = str(disk / "storage" / "experiment")
    place.trial = os.path.join(place.experiment, "trial")
    driver = place.driver()
    driver.own()
    capturer = place.capturer(driver)
    source = place.source(frozen=32 << 20, head=BIG)
    used = []
    for index in range(3):
        (source / "head").write_bytes(os.urandom(BIG))
        before = place.contents(source)
        capturer.capture(source, index, b"{}")
        capturer.settled(index)
        assert place.contents(place.checkpoint(index)) == before
        posix.syncfs(str(disk))
        info = os.statvfs(disk)
        used.append((info.f_blocks - info.f_bfree) * info.f_frsize)
    assert used[2] - used[0] < 32 << 20


def test_handed_over_directory_is_moved(place, capturer):
    """A directory that we handed out is renamed: its files are the checkpoint's, by inode."""
    directory = capturer.new_directory()
    os.mkdir(os.path.join(directory, "sub"), 0o700)
    for name in ("model", "sub/optimizer"):
        with open(os.path.join(directory, name), "wb") as file:
            file.write(os.urandom(BIG))
    os.chmod(os.path.join(directory, "model"), 0o600)
    inode = os.stat(os.path.join(directory, "model")).st_ino
    before = place.contents(directory)
    assert capturer.capture(directory, 0, b"{}", owned=True).ways == {"moved": 2}
    assert not os.path.exists(directory)
    capturer.settled(0)
    checkpoint = place.checkpoint(0)
    assert place.contents(checkpoint) == before
    assert os.stat(checkpoint / "model").st_ino == inode


def test_handed_over_small_directory_is_gone_too(place, capturer):
    """Also when copying was cheaper than renaming."""
    directory = capturer.new_directory()
    with open(os.path.join(directory, "state"), "w") as file:
        file.write("7")
    assert capturer.capture(directory, 0, b"{}", owned=True).ways == {"copied": 1}
    assert not os.path.exists(directory)
    capturer.settled(0)
    assert (place.checkpoint(0) / "state").read_text() == "7"


def test_moved_file_with_an_open_writer(place, capturer):
    """What is written through a descriptor that was open at the capture does not get in."""
    directory = capturer.new_directory()
    path = os.path.join(directory, "model")
    with open(path, "wb") as writer:
        writer.write(os.urandom(BIG))
        writer.flush()
        before = place.contents(directory)
        assert capturer.capture(directory, 0, b"{}", owned=True).ways == {"copied": 1}
        writer.write(b"later")
        writer.flush()
        capturer.settled(0)
    assert place.contents(place.checkpoint(0)) == before


def test_moved_file_with_another_name(place, capturer):
    """A file of a handed-over directory that is linked from a cache stays apart from it."""
    cache = place.path / "cache"
    cache.write_bytes(os.urandom(BIG))
    directory = capturer.new_directory()
    os.link(cache, os.path.join(directory, "weights"))
    with open(os.path.join(directory, "own"), "wb") as file:
        file.write(os.urandom(BIG))
    before = place.contents(directory)
    assert capturer.capture(directory, 0, b"{}", owned=True).ways == {"moved": 1, "leased": 1}
    patch(cache)
    capturer.settled(0)
    assert place.contents(place.checkpoint(0)) == before


def test_cwd_inside(place, driver):
    """A worker that has changed into its directory does not end up inside of a checkpoint."""
    source = place.source(model=BIG)
    before = place.contents(source)
    worker = place.worker(
        driver,
        f"""
        os.chdir({str(source)!r})
        capture = capturer.capture({str(source)!r}, 0, b"{{}}", owned=True)
        say(repr(capture.ways))
        try:
            open("later", "w").write("by a relative name")
        except FileNotFoundError:
            say("gone")
        say(capturer.settled(0))
        """,
    )
    said = worker.communicate()[0].splitlines()
    assert said == ["{'leased': 1}", "gone", str(place.checkpoint(0))]
    assert place.contents(place.checkpoint(0)) == before


def test_modes_follow_the_umask(place, capturer):
    """Neither mkdtemp's 0700 nor a file's own mode decides who may read a checkpoint."""
    umask = os.umask(0)
    os.umask(umask)
    for index, size in enumerate((BIG, 10)):
        source = tempfile.mkdtemp(dir=place.path)
        os.mkdir(os.path.join(source, "sub"), 0o700)
        for name, mode in (("secret", 0o600), ("sub/tool", 0o700), ("loose", 0o666)):
            path = os.path.join(source, name)
            with open(path, "wb") as file:
                file.write(os.urandom(size))
            os.chmod(path, mode)
        capturer.capture(source, index, b"{}")
        shutil.rmtree(source)
        capturer.settled(index)
        checkpoint = place.checkpoint(index)
        modes = {
            name: stat.S_IMODE(os.stat(checkpoint / name).st_mode)
            for name in (".", "sub", "secret", "sub/tool", "loose")
        }
        assert modes == {
            ".": 0o777 & ~umask,
            "sub": 0o777 & ~umask,
            "secret": 0o666 & ~umask,
            "sub/tool": 0o777 & ~umask,
            "loose": 0o666 & ~umask,
        }


@pytest.mark.parametrize("size", [BIG, 10])
def test_links_and_empty_directories(place, capturer, size):
    """Links inside stay links; what links out of it name is copied; empty directories are kept."""
    outside = place.path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "data").write_bytes(b"data outside")
    (outside / "deep" / "more").write_bytes(b"more outside")
    source = place.source(model=size)
    (source / "empty" / "deeper").mkdir(parents=True)
    (source / "sub").mkdir()
    (source / "latest").symlink_to("model")
    (source / "sub" / "up").symlink_to("../model")
    (source / "absolute").symlink_to(source / "model")
    (source / "out").symlink_to(outside / "data")
    (source / "tree").symlink_to(outside)
    (source / "nowhere").symlink_to("missing")
    capturer.capture(source, 0, b"{}")
    model = (source / "model").read_bytes()
    shutil.rmtree(source)
    capturer.settled(0)
    checkpoint = place.checkpoint(0)
    links = {
        str(path.relative_to(checkpoint)): os.readlink(path)
        for path in checkpoint.rglob("*")
        if path.is_symlink()
    }
    assert links == {
        "latest": "model", "sub/up": "../model", "absolute": "model", "nowhere": "missing",
    }  # fmt: skip
    assert place.contents(checkpoint) == {
        "model": model,
        "out": b"data outside",
        "tree/data": b"data outside",
        "tree/deep/more": b"more outside",
    }
    assert (checkpoint / "empty" / "deeper").is_dir()


def test_metadata_travels_and_is_not_listed(place, capturer, driver):
    """Metadata is captured but replaceable; a manifest and leftovers in the source are not."""
    source = place.source(**{"model": b"weights", ".metadata.json": b'{"a": 1}'})
    (source / ".milepost.json").write_bytes(b"of another checkpoint")
    (source / ".milepost-tmp-x").write_bytes(b"left over")
    assert len(capturer.capture(source, 0, b"{}").captured.files) == 2
    capturer.settled(0)
    checkpoint = place.checkpoint(0)
    assert (checkpoint / ".metadata.json").read_bytes() == b'{"a": 1}'
    assert sorted(os.listdir(checkpoint)) == [".metadata.json", ".milepost.json", "model"]
    (event,) = driver.wait_for(Committed)
    assert event.files == 1
    (checkpoint / ".metadata.json").write_bytes(b"{}")
    assert place.checkpoint(0)


def test_empty_directory(place, capturer):
    """A checkpoint may have no file at all."""
    capturer.capture(place.source(), 0, b"{}")
    capturer.settled(0)
    assert os.listdir(place.checkpoint(0)) == [".milepost.json"]


@pytest.mark.parametrize("size", [BIG, 10])
def test_a_committed_checkpoint_as_source(place, capturer, size):
    """A checkpoint that is reported again becomes another one; the first stays whole."""
    capturer.capture(place.source(model=size), 0, b"{}")
    first = capturer.settled(0)
    capturer.capture(first, 1, b"{}")
    capturer.settled(1)
    assert place.contents(place.checkpoint(0)) == place.contents(place.checkpoint(1))


def test_what_cannot_be_captured(place, capturer):
    """Each error names the path and what is wrong with it, and leaves nothing in staging."""
    with pytest.raises(FileNotFoundError, match=r"does not exist.*missing"):
        capturer.capture(place.path / "missing", 0, b"{}")
    file = place.path / "file"
    file.write_text("a file")
    with pytest.raises(NotADirectoryError, match=r"pass the directory that holds it.*file"):
        capturer.capture(file, 0, b"{}")
    pipe = place.source("pipes", model=b"weights")
    os.mkfifo(pipe / "pipe")
    with pytest.raises(CaptureError, match="pipes/pipe is a FIFO"):
        capturer.capture(pipe, 0, b"{}")
    dangling = place.source("dangling")
    (dangling / "link").symlink_to("/nowhere/at/all")
    with pytest.raises(CaptureError, match=r"dangling/link .*'/nowhere/at/all', which does not"):
        capturer.capture(dangling, 0, b"{}")
    looping = place.source("looping")
    (looping / "up").symlink_to(place.path)
    with pytest.raises(CaptureError, match=r"looping/up .* would never end"):
        capturer.capture(looping, 0, b"{}")
    odd = place.source("odd")
    with open(os.fsencode(odd) + b"/\xff", "w"):
        pass
    with pytest.raises(CaptureError, match=r"b'\\xff' .* is not UTF-8"):
        capturer.capture(odd, 0, b"{}")
    assert place.staged() == []


def test_unreadable_file(place, driver):
    """A file that the user may not read is named in the error, and nothing stays in staging."""
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    capturer = place.capturer(driver)
    source = place.source(model=10)
    (source / "model").chmod(0)
    with pytest.raises(CaptureError, match=r"Permission denied at .*model"):
        capturer.capture(source, 0, b"{}")
    assert place.staged() == []


def test_failure_half_way(place, capturer, monkeypatch):
    """An error in the middle of a capture leaves neither files nor room taken behind."""
    source = place.source(model=BIG, other=BIG)

    def fail(src, dst):
        raise OSError(errno.EIO, os.strerror(errno.EIO), dst)

    with monkeypatch.context() as patched:
        patched.setattr(posix, "link", fail)
        with pytest.raises(CaptureError, match=r"Input/output error at .*/model|.*/other"):
            capturer.capture(source, 0, b"{}")
    assert place.staged() == []
    capturer.capture(source, 1, b"{}")
    capturer.settled(1)


def test_handed_over_directory_comes_back(place, capturer, monkeypatch):
    """If a capture fails after the directory was renamed away, it is renamed back."""
    directory = capturer.new_directory()
    with open(os.path.join(directory, "model"), "wb") as file:
        file.write(os.urandom(BIG))
    before = place.contents(directory)

    def fail(fd, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(posix, "append", fail)
        with pytest.raises(CaptureError, match="No space left"):
            capturer.capture(directory, 0, b"{}", owned=True)
    assert place.contents(directory) == before


def test_child_of_the_worker(place, driver):
    """A forked child cannot capture; its worker goes on as if it had not tried."""
    source = place.source(model=BIG)
    worker = place.worker(
        driver,
        f"""
        capturer.capture({str(source)!r}, 0, b"{{}}")
        pid = os.fork()
        if pid == 0:
            try:
                capturer.capture({str(source)!r}, 1, b"{{}}")
            except Exception as error:
                say(f"{{type(error).__name__}}: {{error}}")
            os._exit(0)
        os.waitpid(pid, 0)
        capturer.capture({str(source)!r}, 1, b"{{}}")
        say(capturer.settled(0))
        say(capturer.settled(1))
        """,
    )
    assert "is a child of worker" in worker.stdout.readline()
    for index in (0, 1):
        assert worker.stdout.readline().strip() == str(place.checkpoint(index))


def test_index_that_is_taken(place, capturer):
    """A directory in the way is not touched; the failure says where the captured bytes are."""
    os.makedirs(os.path.join(place.trial, "checkpoint_000000", "by hand"))
    capturer.capture(place.source(model=10), 0, b"{}")
    with pytest.raises(CheckpointFailedError, match=r"checkpoint_000000.*captured bytes stay in"):
        capturer.settled(0)
    assert os.listdir(os.path.join(place.trial, "checkpoint_000000")) == ["by hand"]
    assert capturer.failures() == [], "it was raised already"
