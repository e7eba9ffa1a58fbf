"""``docs/format.md`` says what is written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from milepost.checkpoint import manifest as manifests
from milepost.checkpoint.manifest import FORMAT, FileEntry, Manifest
from milepost.checkpoint.validation import Outcome, Task
from milepost.storage import names

PAGE = Path(__file__).parents[2] / "docs" / "format.md"


@pytest.fixture(scope="module")
def chapter() -> str:
    text = PAGE.read_text()
    return text[text.index("## Checkpoints") : text.index("## Staging")]


def documented(table: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def test_every_key_is_documented(chapter):
    """The tables list the keys of a manifest and of what is in it, in order, and no others."""
    manifest, rest = chapter.split("An entry of `files`:")
    entry, validations = rest.split("### Validations")
    fields = [field.name for field in msgspec.structs.fields(Manifest)]
    assert documented(manifest) == [*fields, "check"]
    assert documented(entry) == [field.name for field in msgspec.structs.fields(FileEntry)]
    task = [field.name for field in msgspec.structs.fields(Task)]
    assert documented(validations) == [*task, "checkpoint", "outcome"]
    for field in msgspec.structs.fields(Outcome):
        assert f"`{field.name}`" in validations
    assert f"version of this table: {FORMAT} |" in chapter


def test_the_check_sum_program_works(chapter, trial, save, monkeypatch):
    """The few lines on the page accept what a commit writes."""
    (program,) = re.findall(r"```python\n(.*?)```", chapter, re.DOTALL)
    monkeypatch.chdir(save(trial, 0))
    exec(program, {})
    path = Path(".milepost.json")
    path.write_bytes(path.read_bytes().replace(b'"index":0', b'"index":1'))
    with pytest.raises(AssertionError):
        exec(program, {})


def test_names_are_documented(chapter):
    """The page spells the names as the code does."""
    for prefix in (names.TMP_PREFIX, names.TRASH_PREFIX, names.QUARANTINE_PREFIX):
        assert f"`{prefix}<" in chapter
    assert re.fullmatch(r".*/\.milepost-tmp-x-[0-9a-f]{12}\.\d+", names.temporary("/a", "x"))
    assert re.fullmatch(r"/a/\.milepost-trash-x-[0-9a-f]{8}\.\d+", names.trash("/a/x"))
    assert re.fullmatch(r"/a/\.milepost-quarantine-x-[0-9a-f]{8}", names.quarantine("/a/x"))


GOLDEN = (
    b'{"format":1,"id":"a-0","attempt":0,"run":"r","trial":"t","index":0,"iteration":1,'
    b'"metrics":{"loss":0.5},"files":[{"path":"m","size":3,"xxh3":"06b05ab6733a618578af5f94892f39'
    b'50"},{"path":"s","link":"m"}],"directories":[],"parts":[],"parent":null,"times":{"captured":'
    b'0.0,"committed":0.0},"writer":"milepost 0.1.0","check":"d18fc0e8"}\n'
)


def test_golden_manifest():
    """A manifest of format 1 stays readable, and is written the same way."""
    manifest = manifests.from_bytes(GOLDEN)
    assert manifests.to_bytes(manifest) == GOLDEN
    assert json.loads(bytes(manifest.metrics)) == {"loss": 0.5}
    assert manifest.files == [
        FileEntry("m", 3, "06b05ab6733a618578af5f94892f3950"),
        FileEntry("s", link="m"),
    ]
