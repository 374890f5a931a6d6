"""Settings: configured from any thread, overlaid for one thread or task."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import dspex
from dspex.errors import DefinitionError
from dspex.execution import Budget, Settings, configure, context, current, map_threads, settings


class Model:
    """As much of a model as settings look at."""

    def __init__(self, name: str) -> None:
        self.name = name

    def generate(self) -> None: ...


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = current().as_dict()
    yield
    configure(**before)


def test_configure_is_seen_by_every_thread() -> None:
    model = Model("a")
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: configure(lm=model))
    thread.start()
    thread.join()
    assert current().lm is model
    thread = threading.Thread(target=lambda: seen.append(current().lm))
    thread.start()
    thread.join()
    assert seen == [model]
    configure(lm=None)
    assert current().lm is None


def test_configure_keeps_what_it_is_not_told() -> None:
    model, budget = Model("a"), Budget(calls=1)
    configure(lm=model)
    configure(budget=budget)
    assert (current().lm, current().budget) == (model, budget)


def test_contexts_nest_and_end() -> None:
    one, two = Model("one"), Model("two")
    configure(lm=one)
    with context(lm=two, track_usage=False):
        with context(track_usage=True) as inner:
            assert (inner.lm, inner.track_usage) == (two, True)
        assert (current().lm, current().track_usage) == (two, False)
    assert (current().lm, current().track_usage) == (one, True)


def test_a_context_sees_later_changes_of_what_it_does_not_overlay() -> None:
    model = Model("late")
    with context(track_usage=False):
        configure(lm=model)
        assert current().lm is model
        assert not current().track_usage


def test_a_context_ends_also_with_an_error() -> None:
    with pytest.raises(KeyError), context(lm=Model("x")):
        raise KeyError
    assert current().lm is None


def test_other_threads_do_not_see_a_context_and_workers_do() -> None:
    model = Model("mine")
    seen: list[Any] = []
    with context(lm=model):
        thread = threading.Thread(target=lambda: seen.append(current().lm))
        thread.start()
        thread.join()
        assert seen == [None]
        assert map_threads(lambda _: current().lm, range(3)) == [model] * 3


def test_tasks_do_not_mix() -> None:
    async def one(model: Model) -> bool:
        with context(lm=model):
            for _ in range(5):
                await asyncio.sleep(0)
                if current().lm is not model:
                    return False
        return current().lm is None

    async def main() -> list[bool]:
        return await asyncio.gather(*(one(Model(str(number))) for number in range(20)))

    assert all(asyncio.run(main()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lm": "openai/gpt-4o-mini"}, "right: dspex.configure(lm=dspex.LM('openai/gpt-4o-mini'))"),
        ({"lm": 3}, "lm must be a dspex.LM (or another BaseLM) or None, not 3 (int)"),
        ({"lm": Model}, "(type)"),
        ({"adapter": "chat"}, "adapter must be an adapter or None, not 'chat' (str)"),
        ({"adapter": Model}, "write dspex.configure(adapter=Model())"),
        ({"budget": 2.0}, "write for example dspex.configure(budget=dspex.Budget(usd=2.0))"),
        ({"callbacks": 3}, "callbacks must be a list of callbacks, not 3 (int)"),
        ({"callbacks": ["log"]}, "callbacks must hold instances of dspex.Callback, not 'log' (str)"),
        ({"callbacks": [dspex.Callback]}, "not the class Callback (type); write callbacks=[Callback()]"),
        ({"callback": []}, "there is no setting 'callback': the settings are adapter, budget, cache, callbacks,"),
        ({"callback": []}, "did you mean callbacks=?"),
    ],
)
def test_values_of_the_wrong_kind(changes: dict[str, Any], message: str) -> None:
    before = current()
    with pytest.raises(DefinitionError) as caught:
        configure(**changes)
    assert message in str(caught.value)
    with pytest.raises(DefinitionError), context(**changes):
        pytest.fail("a context with a wrong value was entered")
    assert current() is before


def test_they_are_immutable() -> None:
    with pytest.raises(AttributeError, match=r"write dspex.configure\(lm=...\)"):
        current().lm = 3
    with pytest.raises(AttributeError, match="immutable"):
        del current().lm


def test_equality_copies_and_pickles() -> None:
    made = Settings(track_usage=False)
    assert made == Settings(track_usage=False, callbacks=())
    assert made != Settings()
    assert made != 3
    assert pickle.loads(pickle.dumps(made)) == made
    assert repr(made) == (
        "Settings(adapter=None, budget=None, cache=None, callbacks=(), ledgers=(), lm=None, track_usage=False)"
    )


def test_callbacks_stay_in_their_process() -> None:
    made = Settings(callbacks=[dspex.Callback()])
    assert pickle.loads(pickle.dumps(made)) == Settings()


def test_the_familiar_door() -> None:
    model = Model("door")
    settings.configure(lm=model)
    assert settings.lm is model
    with settings.context(lm=None):
        assert settings.lm is None
    assert repr(settings) == repr(current())
    with pytest.raises(AttributeError):
        settings.nothing  # noqa: B018 - reading is the point
