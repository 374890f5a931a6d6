from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from dspex.data import Example, sample, split
from dspex.errors import DataError

datasets = st.lists(st.integers(0, 30), min_size=1, max_size=60).map(
    lambda numbers: [Example(n=number) for number in numbers]
)
seeds = st.integers(0, 1000)


@given(datasets, seeds, st.floats(0, 1), st.floats(0, 1))
def test_parts_share_no_content(examples: list[Example], seed: int, train: float, cut: float) -> None:
    val = (1 - train) * cut
    parts = split(examples, seed=seed, train=train, val=val, test=max(0.0, 1 - train - val))
    ids = [{example.id for example in part} for part in parts]
    assert ids[0].isdisjoint(ids[1] | ids[2])
    assert ids[1].isdisjoint(ids[2])
    assert sum(map(len, parts)) == len(examples)


@given(datasets, seeds, st.randoms())
def test_parts_do_not_depend_on_the_order_of_the_data(examples: list[Example], seed: int, rng: Any) -> None:
    mixed = list(examples)
    rng.shuffle(mixed)
    assert split(examples, seed=seed) == split(mixed, seed=seed)
    assert sample(examples, 1, seed=seed) == sample(mixed, 1, seed=seed)


@given(st.integers(1, 200), seeds)
def test_sizes_are_exact_without_duplicates(count: int, seed: int) -> None:
    examples = [Example(n=number) for number in range(count)]
    parts = split(examples, seed=seed, train=count // 3, val=0.25, test=0)
    assert len(parts.train) == count // 3
    assert abs(len(parts.val) - count / 4) <= 1
    assert parts.test == []


def test_the_seed_decides() -> None:
    examples = [Example(n=number) for number in range(100)]
    assert split(examples, seed=1) == split(examples, seed=1)
    assert split(examples, seed=1) != split(examples, seed=2)
    assert split(examples).train != examples[:50]
    assert repr(split(examples)) == "<Split: 50 train, 25 val, 25 test>"


def test_inputs_survive() -> None:
    train, _, _ = split([Example(q=number, a=0).with_inputs("q") for number in range(4)])
    assert all(example.input_keys == {"q"} for example in train)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"train": 0.8, "val": 0.3, "test": 0.0}, r"ask for more than the 10 examples there are"),
        ({"train": 11, "val": 0, "test": 0}, r"train=11, val=0 and test=0 ask for more than the 10"),
        ({"train": -1}, r"train=-1 \(int\) must be a fraction such as 0\.25 or a count"),
        ({"val": float("nan")}, r"val=nan \(float\) must be a fraction"),
        ({"test": "0.5"}, r"test='0\.5' \(str\) must be a fraction"),
        ({"train": True}, r"train=True \(bool\) must be"),
        ({"train": 5.0}, r"train=5\.0 is more than the whole; for a count write 5"),
    ],
)
def test_sizes_that_cannot_be_meant(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split([Example(n=number) for number in range(10)], **sizes)


def test_an_empty_dataset_is_refused() -> None:
    with pytest.raises(DataError, match="examples is empty"):
        split([])
    with pytest.raises(DataError, match="examples is empty"):
        sample([], 0)


@given(datasets, seeds)
def test_a_sample_is_a_prefix_of_a_larger_one(examples: list[Example], seed: int) -> None:
    whole = sample(examples, len(examples), seed=seed)
    assert sorted(example.n for example in whole) == sorted(example.n for example in examples)
    assert sample(examples, len(examples) // 2, seed=seed) == whole[: len(examples) // 2]


@pytest.mark.parametrize("count", [-1, 4, 1.5, True])
def test_a_sample_of_impossible_size_is_refused(count: Any) -> None:
    with pytest.raises(DataError, match=r"count=.* must be a whole number from 0 to 3"):
        sample([Example(n=number) for number in range(3)], count)
