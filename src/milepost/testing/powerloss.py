"""What a power loss can leave of a recorded sequence of file system changes.

The model is as strict as POSIX allows: bytes of a file survive only up to its last flush, and a
name (created, renamed or removed) only when its directory was flushed afterwards; everything else
may have reached the disk or not. For each prefix of a trace, :func:`states` builds

- the state in which nothing unflushed survived,
- the one in which all names did but no unflushed bytes,
- the one in which everything did,
- for each file or directory with unflushed changes, the state in which only its changes were lost,
  and the one in which only its changes survived: these show a missing order between two steps.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from milepost.storage import posix
from milepost.testing.interposer import Step

Names = dict[str, "Node"]


@dataclass(eq=False)
class Node:
    """A file (bytes), a directory (names) or a symbolic link (its target)."""

    now: bytes | Names | str
    durable: bytes | Names | str = field(default=b"")
    mode: int = 0o644

    @property
    def is_dirty(self) -> bool:
        """Whether a power loss can lose something of it."""
        return self.now != self.durable


Frozen = bytes | str | tuple[tuple[str, "Frozen"], ...]


class State(NamedTuple):
    """One possible content of the root after a power loss.

    Attributes:
        prefix: how many steps had been made.
        what: which unflushed changes survived, for messages.
        content: the tree; see :func:`materialise`.
    """

    prefix: int
    what: str
    content: Frozen


def states(disk: Disk, steps: Sequence[Step], seen: set[Frozen] | None = None) -> Iterator[State]:
    """Yield the distinct states that a power loss can leave before, between and after steps.

    Args:
        disk: the content at the beginning; it is changed by the steps.
        steps: the recorded trace; marks are skipped.
        seen: contents that were yielded since the last mark, if the caller wants to share them.
    """
    known: set[Frozen] = set() if seen is None else seen
    for prefix in range(len(steps) + 1):
        if prefix:
            disk.apply(steps[prefix - 1])
            if steps[prefix - 1].operation == "mark":
                known.clear()  # the same content must satisfy more from here on
        for what, content in disk.survivors():
            if content not in known:
                known.add(content)
                yield State(prefix, what, content)


class Disk:
    """A directory tree in memory that knows which of its changes were flushed.

    Args:
        root: the directory to load; steps outside of it are errors.
        unflushed: paths in it whose content was never flushed, such as files of the user.
        implicit: take directories and files that the trace does not create as created, unflushed,
            when they are first used; for traces of whole runs, in which users create some too.
    """

    def __init__(self, root: str, unflushed: Iterable[str] = (), *, implicit: bool = False) -> None:
        self.root_path = os.path.abspath(root)
        self._implicit = implicit
        self._links: dict[tuple[int, int], Node] = {}
        self.root = self._load(self.root_path)
        self._links.clear()
        for path in unflushed:
            parent, name = self._parent(os.path.abspath(path))
            assert isinstance(parent.durable, dict)
            parent.durable.pop(name)
            for node in _below(self._find(os.path.abspath(path))):
                node.durable = _empty(node)

    def apply(self, step: Step) -> None:
        """Make one recorded change."""
        getattr(self, "_" + step.operation)(step)

    def would_flush(self, step: Step) -> bool:
        """Tell whether a flush, made now, has anything to flush."""
        if step.operation == "syncfs":
            return any(node.is_dirty for node in self._all())
        if step.operation not in posix.FLUSHES or not self._is_inside(step.paths[0]):
            return False
        return self._find(step.paths[0]).is_dirty

    def survivors(self) -> Iterator[tuple[str, Frozen]]:
        """Yield what a power loss now can leave, with a description; may repeat itself."""
        dirty = [node for node in self._all() if node.is_dirty]
        everything = set(dirty)
        yield "nothing unflushed", self._freeze(set())
        yield "names only", self._freeze({n for n in dirty if isinstance(n.now, dict)})
        yield "everything", self._freeze(everything)
        for node in dirty:
            yield f"all but {self._name(node)}", self._freeze(everything - {node})
            yield f"only {self._name(node)}", self._freeze({node})

    # --- loading and lookup

    def _load(self, path: str) -> Node:
        info = os.lstat(path)
        if os.path.islink(path):
            target = os.readlink(path)
            return Node(target, target)
        if os.path.isdir(path):
            names: Names = {name: self._load(os.path.join(path, name)) for name in os.listdir(path)}
            return Node(names, dict(names), info.st_mode & 0o777)
        key = info.st_dev, info.st_ino
        if key not in self._links:
            with open(path, "rb") as file:
                data = file.read()
            self._links[key] = Node(data, data, info.st_mode & 0o777)
        return self._links[key]

    def _parent(self, path: str) -> tuple[Node, str]:
        directory, name = os.path.split(path)
        return self._find(directory, {}), name

    def _is_inside(self, path: str) -> bool:
        return os.path.commonpath([path, self.root_path]) == self.root_path

    def _find(self, path: str, otherwise: bytes | Names = b"") -> Node:
        relative = os.path.relpath(path, self.root_path)
        if not self._is_inside(path):
            raise ValueError(f"{path} is outside of the recorded root {self.root_path}")
        node = self.root
        parts = [] if relative == "." else relative.split(os.sep)
        for depth, name in enumerate(parts, 1):
            assert isinstance(node.now, dict), f"{path} leads through a file"
            if name not in node.now and self._implicit:
                is_last = depth == len(parts)
                empty = otherwise if is_last else {}
                node.now[name] = Node(empty, dict(empty) if isinstance(empty, dict) else empty)
            node = node.now[name]
        return node

    def _all(self) -> list[Node]:
        """Every node that is reachable now or would be after a power loss, once, in order."""
        return list(_below(self.root))

    def _name(self, wanted: Node) -> str:
        def search(node: Node, path: str) -> str | None:
            if node is wanted:
                return path or "."
            for table in (node.now, node.durable):
                if isinstance(table, dict):
                    for name, inner in table.items():
                        if found := search(inner, os.path.join(path, name)):
                            return found
            return None

        return search(self.root, "") or "?"

    def _freeze(self, survived: set[Node]) -> Frozen:
        def freeze(node: Node) -> Frozen:
            value = node.now if node in survived else node.durable
            if not isinstance(value, dict):
                return value
            return tuple((name, freeze(value[name])) for name in sorted(value))

        return freeze(self.root)

    # --- steps

    def _names(self, path: str) -> tuple[Names, str]:
        parent, name = self._parent(path)
        assert isinstance(parent.now, dict)
        return parent.now, name

    def _add(self, path: str, node: Node) -> None:
        table, name = self._names(path)
        table[name] = node

    def _mark(self, step: Step) -> None:
        """Change nothing."""

    def _chmod(self, step: Step) -> None:
        """Change nothing: no decision depends on permission bits."""

    def _write_new(self, step: Step) -> None:
        self._add(step.paths[0], Node(step.data))

    def _create_new(self, step: Step) -> None:
        self._add(step.paths[0], Node(b""))

    def _copy_file(self, step: Step) -> None:
        self._add(step.paths[1], Node(step.data))

    _reflink = _copy_file

    def _append(self, step: Step) -> None:
        node = self._find(step.paths[0])
        assert isinstance(node.now, bytes)
        node.now += step.data

    def _pwrite(self, step: Step) -> None:
        node = self._find(step.paths[0])
        assert isinstance(node.now, bytes)
        padded = node.now.ljust(step.offset, b"\0")
        node.now = padded[: step.offset] + step.data + padded[step.offset + len(step.data) :]

    def _truncate(self, step: Step) -> None:
        node = self._find(step.paths[0])
        assert isinstance(node.now, bytes)
        node.now = node.now[: step.offset].ljust(step.offset, b"\0")

    def _symlink(self, step: Step) -> None:
        self._add(step.paths[1], Node(step.paths[0], step.paths[0]))

    def _mkdir(self, step: Step) -> None:
        self._add(step.paths[0], Node({}, {}))

    def _link(self, step: Step) -> None:
        self._add(step.paths[1], self._find(step.paths[0]))

    def _rename(self, step: Step) -> None:
        table, name = self._names(step.paths[0])
        self._add(step.paths[1], table.pop(name))

    _rename_noreplace = _replace = _rename

    def _unlink(self, step: Step) -> None:
        table, name = self._names(step.paths[0])
        if name in table or not self._implicit:
            del table[name]

    _rmdir = _unlink

    def _fsync_file(self, step: Step) -> None:
        if not self._is_inside(step.paths[0]):
            return  # the directory that holds the root: the root itself is taken as durable
        node = self._find(step.paths[0], {} if step.operation == "fsync_dir" else b"")
        node.durable = dict(node.now) if isinstance(node.now, dict) else node.now

    _fsync = _fsync_dir = _fsync_file

    def _syncfs(self, step: Step) -> None:
        for node in self._all():
            node.durable = dict(node.now) if isinstance(node.now, dict) else node.now


def _empty(node: Node) -> bytes | Names | str:
    if isinstance(node.now, dict):
        return {}
    return b"" if isinstance(node.now, bytes) else node.now


def _below(node: Node, seen: set[Node] | None = None) -> Iterator[Node]:
    known = set() if seen is None else seen
    if node in known:
        return
    known.add(node)
    yield node
    for table in (node.now, node.durable):
        if isinstance(table, dict):
            for inner in table.values():
                yield from _below(inner, known)


def materialise(content: Frozen, directory: str) -> None:
    """Write the content of a state into a new directory."""
    os.mkdir(directory)
    assert isinstance(content, tuple)
    for name, inner in content:
        path = os.path.join(directory, name)
        if isinstance(inner, tuple):
            materialise(inner, path)
        elif isinstance(inner, str):
            os.symlink(inner, path)
        else:
            with open(path, "xb") as file:
                file.write(inner)
