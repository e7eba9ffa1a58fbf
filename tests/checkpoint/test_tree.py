from __future__ import annotations

import os
import socket

import pytest
import xxhash

from milepost.checkpoint import tree
from milepost.checkpoint.manifest import FileEntry
from milepost.errors import CaptureError


def test_describe(tmp_path):
    """Files with digest and mode, links as links, empty directories; ours are left out."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "model").write_bytes(b"abc")
    (tmp_path / "b" / "model").chmod(0o640)
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "a").chmod(0o755)
    (tmp_path / "b" / "link").symlink_to("../a")
    (tmp_path / "void" / "inner").mkdir(parents=True)
    (tmp_path / "linked").symlink_to("b")
    (tmp_path / ".milepost.json").write_text("{}")
    (tmp_path / ".metadata.json").write_text("{}")
    (tmp_path / ".milepost-tmp-metadata").write_text("{}")
    (tmp_path / "b" / ".metadata.json").write_text("{}")
    assert tree.describe(str(tmp_path)) == (
        [
            FileEntry("a", 0, xxhash.xxh3_128_hexdigest(b""), 0o755),
            FileEntry("b/.metadata.json", 2, xxhash.xxh3_128_hexdigest(b"{}"), 0o644),
            FileEntry("b/link", link="../a"),
            FileEntry("b/model", 3, xxhash.xxh3_128_hexdigest(b"abc"), 0o640),
            FileEntry("linked", link="b"),
        ],
        ["void/inner"],
        5,
    )


def test_known_digests_are_not_computed_again(tmp_path, monkeypatch):
    """A file whose digest came from copying is not opened."""
    (tmp_path / "model").write_bytes(b"abc")
    monkeypatch.setattr(tree, "digest", None)
    described = tree.describe(str(tmp_path), known={"model": "cafe"})
    assert described.files == [FileEntry("model", 3, "cafe", described.files[0].mode)]


def test_digest_of_a_large_file(tmp_path):
    """A file of several blocks has the digest of its bytes."""
    data = os.urandom(3 << 20) + b"tail"
    (tmp_path / "file").write_bytes(data)
    expected = xxhash.xxh3_128_hexdigest(data), len(data)
    assert tree.digest(str(tmp_path / "file")) == expected


def test_fifo_and_socket_are_refused(tmp_path):
    """What cannot be saved is named, with what it is."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CaptureError, match="pipe is a FIFO"):
        tree.describe(str(tmp_path))
    os.unlink(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        previous = os.getcwd()
        os.chdir(tmp_path)  # the path of a socket is limited to 107 bytes
        try:
            server.bind("sock")
        finally:
            os.chdir(previous)
        with pytest.raises(CaptureError, match="sock is a socket"):
            tree.describe(str(tmp_path))


@pytest.mark.parametrize("target", ["/etc/hostname", "../outside", "x/../../y"])
def test_links_out_are_refused(tmp_path, target):
    """A link that leads out would not survive a move of the experiment."""
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(CaptureError, match="leads out"):
        tree.describe(str(tmp_path))


def test_names_that_are_not_utf8_are_refused(tmp_path):
    """The error shows the bytes of the name."""
    with open(os.fsencode(tmp_path) + b"/bad\xff", "wb"):
        pass
    with pytest.raises(CaptureError, match=r"bad\\xff"):
        tree.describe(str(tmp_path))


def test_walk_gives_leaves_first(tmp_path):
    """Each directory comes after everything in it, in a fixed order."""
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "b" / "c" / "file").touch()
    (tmp_path / "a").touch()
    assert [item.path for item in tree.walk(str(tmp_path))] == ["a", "b/c/file", "b/c", "b"]
