"""What trials may use of this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import milepost
from milepost.api import session


@pytest.fixture(autouse=True)
def _no_session() -> Iterator[None]:
    milepost.shutdown()
    yield
    milepost.shutdown()


def test_init_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, the CPUs that this process may run on count, and nothing is started."""
    monkeypatch.setattr(session, "_cgroup_cpus", lambda root="": None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert milepost.cluster_resources() == {"CPU": float(len(os.sched_getaffinity(0)))}
    assert not milepost.is_initialized()
    session.ensure_initialized()
    assert milepost.is_initialized()


def test_init_states_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Amounts may exceed the machine's, as scheduling does not need real devices."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    milepost.init(num_cpus=64, num_gpus=3, resources={"tpu": 2})
    assert milepost.cluster_resources() == {"CPU": 64.0, "GPU": 3.0, "tpu": 2.0}
    assert session.current_resources().gpus[:2] == ("3", "5")


def test_init_twice() -> None:
    """A second call is an error unless it is expected; then the first one's settings stay."""
    first = milepost.init(num_cpus=3)
    with pytest.raises(RuntimeError, match="called twice"):
        milepost.init(num_cpus=4)
    assert milepost.init(num_cpus=4, ignore_reinit_error=True) is first
    assert milepost.cluster_resources()["CPU"] == 3.0


def test_init_as_context_manager() -> None:
    """Leaving it ends the session."""
    with milepost.init(num_cpus=1):
        assert milepost.is_initialized()
    assert not milepost.is_initialized()


def test_arguments_without_meaning_are_named(caplog: pytest.LogCaptureFixture) -> None:
    """Ray's other arguments are ignored, with one line in the log."""
    with caplog.at_level(logging.INFO, logger="milepost"):
        milepost.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    (record,) = caplog.records
    assert "include_dashboard, log_to_driver" in record.getMessage()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_cpus": -1}, "num_cpus=-1"),
        ({"num_cpus": "two"}, "num_cpus='two'"),
        ({"num_gpus": 0.5}, "whole number"),
        ({"resources": {"tpu": -1}}, r"resources\['tpu'\]=-1"),
        ({"address": "ray://head:10001"}, "this machine only"),
    ],
)
def test_wrong_arguments(given: dict[str, object], message: str) -> None:
    """Amounts that cannot be, and clusters, are refused with their value."""
    with pytest.raises(ValueError, match=message):
        milepost.init(**given)  # type: ignore[arg-type]
    assert not milepost.is_initialized()


@pytest.mark.parametrize(
    ("visible", "ids"),
    [
        ("0,1", ("0", "1")),
        ("", ()),
        ("-1", ()),
        ("2,-1,3", ("2",)),
        ("GPU-abc, GPU-def", ("GPU-abc", "GPU-def")),
        ("NoDevFiles", ()),
    ],
)
def test_visible_gpus(visible: str, ids: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA_VISIBLE_DEVICES decides, up to the first id that is no device."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert session.visible_gpus() == ids


def test_gpus_that_the_driver_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variable, every device of the driver counts."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / "gpus" / name).mkdir(parents=True)
    monkeypatch.setattr(session, "_DRIVER_LIST", str(tmp_path / "gpus"))
    assert session.visible_gpus() == ("0", "1")


@pytest.mark.parametrize(
    ("script", "ids"),
    [
        ("echo 'GPU 0: H200 (UUID: GPU-a)'; echo '  MIG 1g.18gb'; echo 'GPU 1: H200'", ("0", "1")),
        ("exit 9", ()),
        (None, ()),
    ],
)
def test_gpus_without_a_list_of_the_driver(
    script: str | None,
    ids: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The driver's own tool is asked; when it fails there are none, and the log says so."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(session, "_DRIVER_LIST", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin" if script else str(tmp_path))
    if script:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    assert session.visible_gpus() == ids
    assert ("cannot list them" in caplog.text) is (script == "exit 9")


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_container_limits(files: dict[str, str], cpus: float | None, tmp_path: Path) -> None:
    """Quotas of both kinds of control groups are read."""
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert session._cgroup_cpus(str(tmp_path)) == cpus


@pytest.mark.parametrize(("limit", "expected"), [(0.5, 1), (1.9, 1), (1000.0, None)])
def test_default_cpus_respect_the_limit(
    limit: float, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smaller of affinity and limit counts, and there is always one CPU."""
    monkeypatch.setattr(session, "_cgroup_cpus", lambda root="": limit)
    assert session.default_cpus() == (expected or len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(
    ("name", "advice"),
    [("put", "with_parameters"), ("remote", "multiprocessing"), ("no_such_name", "no_such_name")],
)
def test_names_of_rays_core(name: str, advice: str) -> None:
    """What has no counterpart says what to do instead."""
    with pytest.raises(AttributeError, match=advice):
        getattr(milepost, name)
