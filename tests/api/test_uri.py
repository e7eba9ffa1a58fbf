from __future__ import annotations

from pathlib import Path

import pytest

from milepost.api import uri


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b", "/a/b"),
        ("/a//b/../c/", "/a/c"),
        ("/", "/"),
        ("~/results", "/home/somebody/results"),
        ("relative/x", "/home/here/relative/x"),
        (".", "/home/here"),
        (Path("relative"), "/home/here/relative"),
        ("file:///a/b", "/a/b"),
        ("file://localhost/a/b", "/a/b"),
        ("FILE:///a%20b", "/a b"),
        ("/a/s3:/b", "/a/s3:/b"),
        ("odd name://x", "/home/here/odd name:/x"),
    ],
)
def test_resolve(path, expected, monkeypatch):
    """Absolute, relative and home paths and file URIs all become absolute local paths."""
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setattr("os.getcwd", lambda: "/home/here")
    assert uri.resolve(path) == expected


@pytest.mark.parametrize("path", ["s3://bucket/key", "gs://b", "hdfs://host/x", "abfs+ssl://a/b"])
def test_object_stores_are_named(path):
    """The error shows the URI and says what can be used."""
    with pytest.raises(ValueError, match="cannot store on yet") as caught:
        uri.resolve(path)
    assert path in str(caught.value)


@pytest.mark.parametrize(
    ("path", "error", "says"),
    [
        ("", ValueError, "empty"),
        ("  ", ValueError, "empty"),
        ("file://host/a", ValueError, "three slashes: 'file:///host/a'"),
        (3, TypeError, "int"),
        (b"/a", TypeError, "bytes"),
    ],
)
def test_bad_input(path, error, says):
    """Each mistake is named."""
    with pytest.raises(error, match=says):
        uri.resolve(path)
