"""What a user's storage path means."""

from __future__ import annotations

import os


def resolve(path: str | os.PathLike[str]) -> str:
    """Return the absolute local path that a user's ``storage_path`` names.

    Mirrors how ``RunConfig(storage_path=...)`` is read by Ray, and accepts relative paths too.

    Args:
        path: an absolute path, a relative one (made absolute against the current directory, so
            call this where the user's line runs), ``~`` or ``~user``, or a ``file://`` URI.

    Returns:
        A normalised absolute path, never ending in a slash (except the root itself).

    Raises:
        ValueError: the URI's scheme is not ``file``, or the path is empty.
        TypeError: ``path`` is not text.
    """
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"a storage path must be text, got {text!r} of type {type(text).__name__}")
    if not text.strip():
        raise ValueError("the storage path is empty; give a directory, or leave it out")
    if scheme(text) is not None:
        text = _from_uri(text)
    return os.path.abspath(os.path.expanduser(text))


def scheme(path: str) -> str | None:
    """Return the scheme of a URI in lower case, or None for a plain path."""
    head, separator, _ = path.partition("://")
    if not separator or not head or not head.replace("+", "").replace("-", "").isalnum():
        return None
    return head.lower()


def _from_uri(uri: str) -> str:
    kind = scheme(uri)
    if kind != "file":
        raise ValueError(
            f"storage path {uri!r} names an object store or remote file system ({kind}://), which "
            "this version of Milepost cannot store on yet; use a local or mounted directory "
            "(an absolute path, '~/...', or file:///...)"
        )
    from urllib.parse import unquote, urlsplit  # rarely needed, and slow to import

    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise ValueError(
            f"storage path {uri!r} names the host {parts.netloc!r}; a local URI has three slashes: "
            f"'file:///{parts.netloc}{parts.path}'"
        )
    return unquote(parts.path)
