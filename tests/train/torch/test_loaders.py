"""Data loaders of workers: shares, options, devices, seeds."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    WeightedRandomSampler,
)

from milepost.train.torch import enable_reproducibility, prepare_data_loader, reproducibility

Worker = Callable[..., contextlib.AbstractContextManager[None]]


def numbers(loader: Any) -> list[int]:
    return [int(number) for batch in loader for number in batch]


def shares(worker: Worker, make: Callable[[], Any], ranks: int, epoch: int = 0) -> list[list[Any]]:
    """The batches of each of several workers."""
    found = []
    for rank in range(ranks):
        torch.manual_seed(rank)  # workers need not have equal generators
        with worker(rank, ranks):
            loader = prepare_data_loader(make())
            loader.set_epoch(epoch)
            assert len(loader) == len(list(loader))
            loader.set_epoch(epoch)
            found.append([list(map(int, batch)) for batch in loader])
    return found


def test_one_worker_gets_everything(worker: Worker) -> None:
    """The order is the loader's own."""
    with worker():
        loader = prepare_data_loader(DataLoader(range(5), batch_size=2))
    assert isinstance(loader, DataLoader)
    assert numbers(loader) == [0, 1, 2, 3, 4]
    loader.set_epoch(3)  # with one worker as with several


@pytest.mark.parametrize(
    ("shuffle", "sampler"), [(False, SequentialSampler), (True, RandomSampler)]
)
def test_shares_in_order_or_shuffled(worker: Worker, shuffle: bool, sampler: type) -> None:
    """Each sample comes once, to one worker; epochs differ, and are the same when repeated."""

    def make() -> Any:
        loader = DataLoader(range(9), batch_size=2, shuffle=shuffle)
        assert type(loader.sampler) is sampler
        return loader

    first = shares(worker, make, 3)
    assert sorted(n for share in first for batch in share for n in batch) == list(range(9))
    assert [len(share) for share in first] == [2, 2, 2]
    assert (first == [[[0, 3], [6]], [[1, 4], [7]], [[2, 5], [8]]]) is not shuffle
    assert first == shares(worker, make, 3)
    assert (first != shares(worker, make, 3, epoch=1)) is shuffle


def test_scripts_set_the_epoch_of_the_sampler(worker: Worker) -> None:
    """As with Ray, ``loader.sampler`` is a ``DistributedSampler``."""
    with worker(1, 2):
        loader = prepare_data_loader(DataLoader(range(8), shuffle=True))
        assert isinstance(loader.sampler, DistributedSampler)
        before = numbers(loader)
        loader.sampler.set_epoch(5)
        assert numbers(loader) != before


class Own(DataLoader):  # type: ignore[misc]
    """A loader of a class of its own."""


def collate(items: list[int]) -> torch.Tensor:
    return torch.tensor(items)


def starting(number: int) -> None:
    torch.manual_seed(number)


@pytest.mark.parametrize("ranks", [1, 2])
def test_every_option_is_kept(worker: Worker, ranks: int) -> None:
    """Also those that Ray loses; the loader that was passed stays as it was."""
    generator = torch.Generator()
    options: dict[str, Any] = {
        "batch_size": 3,
        "num_workers": 1,
        "collate_fn": collate,
        "drop_last": True,
        "timeout": 7.0,
        "worker_init_fn": starting,
        "generator": generator,
        "prefetch_factor": 5,
        "persistent_workers": True,
        "pin_memory": False,
    }
    given = Own(range(20), multiprocessing_context="spawn", **options)
    sampler = given.sampler
    with worker(0, ranks):
        loader = prepare_data_loader(given)
        for name, value in options.items():
            assert getattr(loader, name) == value, name
        assert loader.multiprocessing_context.get_start_method() == "spawn"
        assert loader.dataset is given.dataset
        assert isinstance(loader._loader, Own)
        assert len(loader) == (6 if ranks == 1 else 3)
    assert given.sampler is sampler
    assert len(given) == 6
    loader.timeout = 9.0  # as with the loader itself
    assert loader._loader.timeout == 9.0


def test_processes_of_the_loader(worker: Worker) -> None:
    """Persistent ones go on from epoch to epoch."""
    with worker(1, 2):
        loader = prepare_data_loader(
            DataLoader(range(6), num_workers=1, persistent_workers=True, prefetch_factor=1)
        )
        assert numbers(loader) == [1, 3, 5]
        kept = loader._iterator
        assert numbers(loader) == [1, 3, 5]
        assert loader._iterator is kept
        kept._shutdown_workers()


def test_samples_that_are_not_put_together(worker: Worker) -> None:
    """``batch_size=None`` gives samples as they are."""
    with worker(1, 2):
        loader = prepare_data_loader(DataLoader(torch.arange(4), batch_size=None))
        assert [int(one) for one in loader] == [1, 3]


def test_batch_samplers(worker: Worker) -> None:
    """PyTorch's is made anew over shares; batches of any other are dealt out."""

    class Buckets:
        def __iter__(self) -> Iterator[list[int]]:
            for first in torch.randperm(5).tolist():
                yield [first * 2, first * 2 + 1]

        def __len__(self) -> int:
            return 5

    def plain() -> Any:
        sampler = SequentialSampler(range(8))
        return DataLoader(range(8), batch_sampler=BatchSampler(sampler, 3, drop_last=True))

    def buckets() -> Any:
        return DataLoader(range(10), batch_sampler=Buckets())

    assert shares(worker, plain, 2) == [[[0, 2, 4]], [[1, 3, 5]]]
    found = shares(worker, buckets, 2)
    assert [len(share) for share in found] == [3, 3]  # as many steps for each
    assert {n for share in found for batch in share for n in batch} == set(range(10))
    assert found[1][2] in found[0] + found[1][:1]  # the last turn is filled up with the first
    assert found != shares(worker, buckets, 2, epoch=1)


def test_samplers_of_the_users_are_dealt_out(worker: Worker) -> None:
    """Weights and subsets go on to count; all workers draw the same."""
    weights = [0.0] * 10 + [1.0] * 10

    def weighted() -> Any:
        sampler = WeightedRandomSampler(weights, num_samples=12)
        return DataLoader(range(20), sampler=sampler)

    def drawn() -> Any:
        sampler = RandomSampler(range(20), replacement=True, num_samples=7)
        return DataLoader(range(20), sampler=sampler)

    found = shares(worker, weighted, 3)
    assert [len(share) for share in found] == [4, 4, 4]
    assert min(n for share in found for (n,) in share) >= 10
    torch.default_generator.manual_seed(0)
    expected = list(WeightedRandomSampler(weights, num_samples=12))
    assert [share[0][0] for share in found] == expected[:3]
    assert [len(share) for share in shares(worker, drawn, 2)] == [4, 4]
    before = torch.get_rng_state()
    with worker(0, 2):
        numbers(prepare_data_loader(DataLoader(range(20), sampler=torch.randperm(9).tolist())))
    torch.set_rng_state(before)


def test_fewer_samples_than_workers(worker: Worker) -> None:
    """Everybody has something to do, as often."""
    found = shares(worker, lambda: DataLoader(range(9), sampler=[4, 2]), 5)
    assert found == [[[4]], [[2]], [[4]], [[2]], [[4]]]
    assert shares(worker, lambda: DataLoader(range(9), sampler=[]), 2) == [[], []]


def test_what_is_left_alone(worker: Worker) -> None:
    """Samplers that share out themselves, streams, and loaders of which it is asked."""

    class Stream(IterableDataset):  # type: ignore[misc]
        def __iter__(self) -> Iterator[int]:
            return iter(range(3))

    class Alone(BatchSampler):  # type: ignore[misc]
        num_replicas = 2

    own = DistributedSampler(range(6), num_replicas=3, rank=2, shuffle=False)
    with worker(1, 2):
        assert numbers(prepare_data_loader(DataLoader(range(6), sampler=own))) == [2, 5]
        assert numbers(prepare_data_loader(DataLoader(Stream()))) == [0, 1, 2]
        batches = Alone(SequentialSampler(range(3)), 2, False)
        loader = prepare_data_loader(DataLoader(range(3), batch_sampler=batches))
        assert numbers(loader) == [0, 1, 2]
        loader = prepare_data_loader(DataLoader(range(3)), add_dist_sampler=False)
        assert numbers(loader) == [0, 1, 2]
        part = DataLoader(Subset(range(10), [5, 6, 7, 8]))
        assert numbers(prepare_data_loader(part)) == [6, 8]


def test_batches_that_are_none(worker: Worker) -> None:
    """They are batches like others; the loader goes on."""
    loader = DataLoader(range(3), collate_fn=lambda items: items if items[0] != 1 else None)
    with worker():
        assert list(prepare_data_loader(loader)) == [[0], None, [2]]
        assert list(prepare_data_loader(loader, move_to_device=False)) == [[0], None, [2]]


Pair = collections.namedtuple("Pair", "x y")


class Packed:
    """Something that knows how to move."""

    def __init__(self, device: Any = None) -> None:
        self.device = device

    def to(self, device: Any) -> Packed:
        return Packed(device)


def test_everything_in_a_batch_is_moved(worker: Worker) -> None:
    """At any depth, and containers keep their types."""
    batch = {
        "t": torch.ones(1),
        "l": [torch.ones(1), "text"],
        "p": Pair(torch.ones(1), (torch.ones(1), 2)),
        "o": collections.OrderedDict(a=torch.ones(1)),
        "d": collections.defaultdict(list, a=torch.ones(1)),
        "k": Packed(),
    }
    meta = torch.device("meta")
    with worker():
        loader = DataLoader([batch], batch_size=None, collate_fn=lambda one: one)
        (found,) = prepare_data_loader(loader, move_to_device=meta)
        (left,) = prepare_data_loader(loader, move_to_device=False)
    tensors = [found["t"], found["l"][0], found["p"].x, found["p"].y[0], found["o"]["a"]]
    assert all(one.device == meta for one in [*tensors, found["d"]["a"], found["k"]])
    assert [type(one) for one in found.values()] == [type(one) for one in batch.values()]
    assert found["l"][1] == "text"
    assert found["p"].y[1] == 2
    assert found["d"]["none"] == []
    assert left["t"].device.type == "cpu"


class Noise:
    """A dataset that draws a number when it is asked for a sample."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, at: int) -> float:
        return float(torch.rand(()))


@pytest.fixture
def reproducible() -> Iterator[None]:
    """Undo what ``enable_reproducibility`` does to the process."""
    yield
    torch.use_deterministic_algorithms(False)
    reproducibility._seed = None


@pytest.mark.usefixtures("reproducible")
def test_seeds_of_the_loaders_processes(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """They depend on the seed, the rank and the epoch, and on nothing that was drawn before."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")

    def drawn(seed: int, rank: int, epoch: int, before: int) -> tuple[float, ...]:
        enable_reproducibility(seed)
        torch.rand(before)
        with worker(rank, 2):
            given = DataLoader(Noise(), num_workers=1, multiprocessing_context="fork")
            loader = prepare_data_loader(given)
            assert given.generator is None
            loader.set_epoch(epoch)
            return tuple(numbers_of(loader))

    first = drawn(0, 0, 0, before=0)
    assert first == drawn(0, 0, 0, before=9)
    others = {drawn(1, 0, 0, 0), drawn(0, 1, 0, 0), drawn(0, 0, 1, 0)}
    assert len({first, *others}) == 4


def numbers_of(loader: Any) -> list[float]:
    return [float(number) for batch in loader for number in batch]


def test_other_things_than_loaders(worker: Worker) -> None:
    """The error says what to do instead, and misspelt arguments have a close match."""
    with worker():
        with pytest.raises(TypeError, match=r"takes a torch.utils.data.DataLoader, got list"):
            prepare_data_loader([1])
        with pytest.raises(TypeError, match="Did you mean 'move_to_device'"):
            prepare_data_loader(DataLoader([1]), moved_to_device=True)
    with pytest.raises(RuntimeError, match="prepare_data_loader was called outside a training"):
        prepare_data_loader(DataLoader([1]))
