"""Event files for TensorBoard, read with the protocol buffers of tensorboardX."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milepost.journal.files import hparams, protobuf
from milepost.journal.files.events import EventFile
from milepost.journal.files.rows import Row
from milepost.journal.objects import digest
from milepost.storage import codec


@pytest.fixture(autouse=True)
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorboardX needs no torch for this, and importing it takes long."""
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)


def row(value: dict[str, Any], at: float = 10.0) -> Row:
    return Row(codec.encode(value, digest), at)


def read(path: Path) -> list[Any]:
    """The events of a file, with the checks of tensorboardX."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        head, body = data[at : at + 8], data[at + 12 : at + 12 + length]
        assert struct.unpack_from("<I", data, at + 8)[0] == masked_crc32c(head)
        assert struct.unpack_from("<I", data, at + 12 + length)[0] == masked_crc32c(body)
        found.append(Event.FromString(body))
        at += 16 + length
    return found


def event_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("events.out.tfevents.*"))


def scalars(event: Any) -> dict[str, float]:
    return {value.tag: value.simple_value for value in event.summary.value}


def test_scalars_have_the_tags_and_steps_that_scripts_know(tmp_path: Path) -> None:
    """One event per row; numbers only; some fields are left out; odd characters are replaced."""
    events = EventFile(str(tmp_path), print)
    events.add(
        row(
            {
                "loss": 0.5,
                "n": {"acc uracy": 2},
                "done": False,
                "flag": np.bool_(True),
                "f32": np.float32(1.5),
                "nan": float("nan"),
                "inf": float("-inf"),
                "huge": 1e300,
                "text": "x",
                "none": None,
                "empty": [],
                "pid": 1,
                "timestamp": 2,
                "time_total_s": 3.0,
                "training_iteration": 7,
            },
            at=12.5,
        )
    )
    events.add(row({"loss": 0.25, "training_iteration": 8, "timesteps_total": 4000}))
    events.flush()
    (path,) = event_files(tmp_path)
    assert path.name.split(".")[3] == "0000000012"
    version, first, second = read(path)
    assert version.file_version == "brain.Event:2"
    assert (first.step, first.wall_time, second.step) == (7, 12.5, 4000)
    assert scalars(first) == {
        "ray/tune/loss": 0.5,
        "ray/tune/n/acc_uracy": 2.0,
        "ray/tune/done": 0.0,
        "ray/tune/flag": 1.0,
        "ray/tune/f32": 1.5,
        "ray/tune/inf": -np.inf,
        "ray/tune/huge": np.inf,
    }
    assert scalars(second)["ray/tune/loss"] == 0.25


def test_each_start_has_a_file_of_its_own(tmp_path: Path) -> None:
    """Starts within one second do not share a file; a start without rows leaves none."""
    events = EventFile(str(tmp_path), print)
    for iteration in (1, 2):
        events.begin()
        events.add(row({"loss": float(iteration), "training_iteration": iteration}))
        events.flush()
    events.begin()
    events.flush()
    paths = event_files(tmp_path)
    assert len(paths) == 2
    assert [scalars(read(path)[1])["ray/tune/loss"] for path in paths] == [1.0, 2.0]


def test_lists_and_arrays_become_histograms_and_images(tmp_path: Path) -> None:
    """What cannot be shown is named once and keeps nothing else from being shown."""
    notices: list[str] = []
    events = EventFile(str(tmp_path), notices.append)
    value = {
        "weights": [1.0, 2.0, 2.0],
        "image": np.zeros((3, 4, 4), dtype=np.uint8),
        "words": ["a", "b"],
        "loss": 1.0,
        "training_iteration": 1,
    }
    events.add(row(value))
    events.add(row(value))
    events.flush()
    _, first, second = read(event_files(tmp_path)[0])
    shown = {value.tag: value.WhichOneof("value") for value in first.summary.value}
    assert shown["ray/tune/weights"] == "histo"
    assert shown["ray/tune/loss"] == "simple_value"
    histogram = next(v.histo for v in second.summary.value if v.tag == "ray/tune/weights")
    assert (histogram.min, histogram.max, histogram.num, histogram.sum) == (1.0, 2.0, 3.0, 5.0)
    assert [notice for notice in notices if "'words'" in notice] == notices[-1:]
    try:
        import PIL  # noqa: F401
    except ImportError:
        assert "'image'" in notices[0]
    else:
        assert shown["ray/tune/image"] == "image"


def test_hyper_parameters_are_what_tensorboardx_would_write(tmp_path: Path) -> None:
    """Same messages, value for value."""
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.summary import hparams as reference

    params = {"lr": 0.1, "layers": 3, "bias": True, "act": "relu", "none": None, "list": [1]}
    metrics = ["ray/tune/loss", "ray/tune/acc"]

    def parts(summary: Any) -> tuple[str, str, Any]:
        (value,) = summary.value
        plugin = value.metadata.plugin_data
        return value.tag, plugin.plugin_name, HParamsPluginData.FromString(plugin.content)

    ours = [Summary.FromString(data) for data in hparams.summaries(params, metrics)]
    theirs = reference(params, dict.fromkeys(metrics, 0))
    assert list(map(parts, ours)) == list(map(parts, theirs))
    events = EventFile(str(tmp_path), print)
    last = row({"loss": 1.0, "text": "x", "training_iteration": 2})
    events.add(last)
    events.add_hparams(20.0, params, last)
    events.flush()
    found = read(event_files(tmp_path)[0])[2:]
    assert [event.summary.value[0].tag for event in found] == [
        "_hparams_/experiment",
        "_hparams_/session_start_info",
        "_hparams_/session_end_info",
    ]


@given(
    st.text(max_size=300),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=300),
)
def test_the_wire_format_reads_back(text: str, number: int, value: float, data: bytes) -> None:
    """Fields written here are read by the protobuf library, whatever their values."""
    from tensorboardX.proto.event_pb2 import Event

    encoded = (
        protobuf.double(1, value)
        + protobuf.integer(2, number)
        + protobuf.block(4, data)
        + protobuf.block(5, protobuf.block(1, protobuf.text(7, text)))
    )
    assume_text = text.encode(errors="backslashreplace").decode()
    event = Event.FromString(encoded)
    assert (event.wall_time, event.step) == (value, number)
    assert event.summary.value[0].node_name == assume_text
