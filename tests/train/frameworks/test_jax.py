"""JAX in training workers; tests of the library itself need it."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from milepost import train
from milepost.train import ScalingConfig
from milepost.train.error import WorkerGroupError
from milepost.train.v2.jax import JaxConfig, JaxTrainer

pytestmark = pytest.mark.timeout(200)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("ranks", [1, 2])
def test_processes(ranks: int, fails: bool, worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are connected, and let go unless that could wait for workers that hang."""
    said: list[Any] = []
    fake = SimpleNamespace(
        initialize=lambda **where: said.append(where), shutdown=lambda: said.append("shutdown")
    )
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(distributed=fake))
    monkeypatch.setattr("milepost.train.collective.shared", lambda data, what: data)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    context = JaxConfig(use_gpu=True).train_func_context
    try:
        with worker(0, ranks), context():
            platforms = os.environ.pop("JAX_PLATFORMS")
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert platforms == "cuda,cpu"
    assert said[0]["coordinator_address"].startswith("127.0.0.1:")
    assert (said[0]["num_processes"], said[0]["process_id"]) == (ranks, 0)
    assert said[1:] == ([] if fails and ranks == 2 else ["shutdown"])


def test_what_workers_compute_on() -> None:
    """GPUs if workers hold some, unless the config says otherwise."""
    made = JaxTrainer(lambda: None, scaling_config=ScalingConfig(num_workers=2))
    assert made.backend_config.to_dict() == {"use_tpu": False, "use_gpu": False}
    with pytest.raises(ValueError, match="no TPUs"):
        JaxConfig(use_tpu=True)
    with pytest.raises(TypeError, match="must be a JaxConfig"):
        JaxTrainer(lambda: None, jax_config={})  # type: ignore[arg-type]


def loop(config: dict[str, Any]) -> list[Any]:
    """Add up something of all workers; returns what JAX knows of them."""
    import jax
    import jax.numpy as jnp
    from jax.experimental import multihost_utils

    rank = train.get_context().get_world_rank()
    if config.get("fails") == rank:
        raise KeyError(rank)
    everyone = multihost_utils.process_allgather(jnp.array([rank + 1.0]))
    train.report({"sum": float(everyone.sum())})
    return [jax.process_count(), jax.process_index(), jax.device_count(), everyone.ravel().tolist()]


def test_two_workers(make: Any) -> None:
    """They compute together, over CPUs too; the failure of one is told as what it was."""
    pytest.importorskip("jax")
    result = make(JaxTrainer, loop, train_loop_config={}).fit()
    assert result.return_value == [2, 0, 2, [1.0, 2.0]]
    assert result.metrics["sum"] == 3
    with pytest.raises(WorkerGroupError) as failed:
        make(JaxTrainer, loop, train_loop_config={"fails": 1}).fit()
    assert isinstance(failed.value.worker_failures[1], KeyError)
