"""Pools: append-only, known by content, safe from many threads."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from dspex.errors import StateError
from dspex.variables import Demos, Pool, Prompt, content_id


def test_items_are_known_by_their_content() -> None:
    pool = Pool("answer.instructions", Prompt())
    one = pool.add("Be brief.", source="user", note="first", metadata={"score": 0.5})
    two = pool.add("Be kind.", parents=[one.id], source="reflection")
    assert one.id == content_id("Be brief.")
    assert pool.add("Be brief.", source="other") is one
    assert (one.index, two.index, len(pool)) == (0, 1, 2)
    assert pool[two.id] is two is pool[1] is pool.get(two.id) is pool.find("Be kind.")
    assert (pool.index(two.id), two.parents, two.source) == (1, (one.id,), "reflection")
    assert list(pool) == [one, two] == list(pool.items)
    assert pool.values == ("Be brief.", "Be kind.")
    assert one.id in pool
    assert "x" not in pool
    assert (pool.get("x"), pool.find("x"), pool.find(3)) == (None, None, None)
    assert repr(pool) == "<Pool of 'answer.instructions': 2 candidates>"


def test_demos_too() -> None:
    pool = Pool("answer.demos", Demos(max_demos=2))
    item = pool.add([{"q": "1+1", "a": "2"}])
    assert item.value == ({"q": "1+1", "a": "2"},)
    assert pool.add(({"a": "2", "q": "1+1"},)) is item


def test_json_and_pickle() -> None:
    pool = Pool("answer.demos", Demos())
    one = pool.add([{"q": (1, 2)}], metadata={"seed": 3})
    pool.add([], parents=[one.id], note="none")
    for other in (Pool.from_json(json.loads(json.dumps(pool.to_json()))), pickle.loads(pickle.dumps(pool))):
        assert (other.path, other.domain, other.items) == (pool.path, pool.domain, pool.items)
        other.add([{}])
        assert len(pool) == 2


def test_bad_input() -> None:
    pool = Pool("answer.instructions", Prompt(max_chars=10))
    one = pool.add("Be brief.")
    with pytest.raises(StateError, match=r"answer\.instructions = 'Be as brief as you can\.' \(str\) does not fit"):
        pool.add("Be as brief as you can.")
    with pytest.raises(StateError, match=r"the parent 'nobody' \(str\) is not in the pool.*parents=\[item\.id\]"):
        pool.add("New.", parents=["nobody"])
    with pytest.raises(StateError, match=rf"parents='{one.id}' is one string\. Write parents=\['{one.id}'\]"):
        pool.add("New.", parents=one.id)
    with pytest.raises(StateError, match="cannot be written as JSON"):
        pool.add("New.", metadata={"x": {1}})
    with pytest.raises(StateError, match=r"No candidate 'nobody' in the pool of 'answer\.instructions', which has 1\."):
        pool["nobody"]
    with pytest.raises(StateError, match=r"the domain is missing\. Write Pool\('x', Prompt\(\)\)"):
        Pool("x", "y")  # type: ignore[arg-type]  # the test
    assert len(pool) == 1


def test_damaged_json() -> None:
    pool = Pool("p", Prompt())
    pool.add("Be brief.")
    data = pool.to_json()
    data["items"][0]["value"] = "Be kind."
    with pytest.raises(StateError, match=r"The pool of 'p' is damaged: the item .* has the content of"):
        Pool.from_json(data)
    with pytest.raises(StateError, match="The JSON of a pool is damaged: KeyError: 'path'"):
        Pool.from_json({})


def test_many_threads_add_each_content_once() -> None:
    pool = Pool("p", Prompt())
    with ThreadPoolExecutor(16) as threads:
        items = list(threads.map(lambda number: pool.add(f"Candidate {number % 50}"), range(2000)))
    assert len(pool) == 50
    assert [item.index for item in pool] == list(range(50))
    assert {id(item) for item in items} == {id(item) for item in pool}
