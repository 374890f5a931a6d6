"""A storage held against the one in memory: whatever is done to both, both say the same.

The machine needs pytest and hypothesis, which come with the ``test`` extra.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from dspex.data import Evaluation
from dspex.errors import StudyError
from dspex.storage import InMemoryStorage, Storage
from dspex.storage.rows import trial_to_text
from dspex.testing.records import NOW, everything, row, running
from dspex.trials import FrozenTrial, PoolRecord, StudyDirection, TrialState

__all__ = ["agreement"]


def agreement(make: Callable[[], Storage]) -> type[RuleBasedStateMachine]:
    """A hypothesis machine that does the same to a new storage and to an in-memory one, and compares them."""

    class Agreement(RuleBasedStateMachine):
        studies = Bundle("studies")

        def __init__(self) -> None:
            super().__init__()
            self.mine, self.model = make(), InMemoryStorage()
            self.ids: dict[str, tuple[int, int]] = {}
            self.cursors: dict[tuple[str, str], tuple[int, int]] = {}

        def both(self, call: Callable[[Storage, int], Any], name: str) -> Any:
            outcomes: list[Any] = []
            for storage, study_id in zip((self.mine, self.model), self.ids[name], strict=True):
                try:
                    outcomes.append(call(storage, study_id))
                except StudyError as error:
                    outcomes.append(str(error))
            mine, model = outcomes
            assert _comparable(mine) == _comparable(model)
            return mine

        @rule(target=studies, name=st.sampled_from("abc"), two=st.booleans())
        def create(self, name: str, two: bool) -> str:
            directions = [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE] if two else [StudyDirection.MAXIMIZE]
            if name in self.ids:
                for storage in (self.mine, self.model):
                    with pytest.raises(StudyError):
                        storage.create_study(name, directions)
                return name
            records = [storage.create_study(name, directions) for storage in (self.mine, self.model)]
            self.ids[name] = (records[0].id, records[1].id)
            return name

        @rule(name=consumes(studies))
        def delete(self, name: str) -> None:
            if name in self.ids:
                self.both(lambda storage, study: storage.delete_study(study), name)
                del self.ids[name]
                self.cursors = {key: value for key, value in self.cursors.items() if key[0] != name}

        @rule(name=studies, key=st.sampled_from("xy"), value=st.integers() | st.text(), user=st.booleans())
        def attribute(self, name: str, key: str, value: Any, user: bool) -> None:
            if name in self.ids:
                self.both(
                    lambda storage, study: storage.set_study_attr(study, "user" if user else "system", key, value), name
                )

        @rule(name=studies, value=st.integers(0, 2), expected=st.none() | st.integers(0, 2))
        def swap(self, name: str, value: int, expected: int | None) -> None:
            if name in self.ids:
                self.both(
                    lambda storage, study: storage.swap_study_attr(study, "user", "x", value, expected=expected), name
                )

        @rule(name=studies, states=st.lists(st.sampled_from(TrialState), max_size=3), full=st.booleans())
        def append(self, name: str, states: list[TrialState], full: bool) -> None:
            if name in self.ids:
                base = everything() if full else running()
                trials = [attrs.evolve(base, state=state) for state in states]
                self.both(lambda storage, study: storage.append_trials(study, trials), name)

        @rule(name=studies, number=st.integers(0, 6), old=st.sampled_from(TrialState), new=st.sampled_from(TrialState))
        def update(self, name: str, number: int, old: TrialState, new: TrialState) -> None:
            if name in self.ids:
                trial = running(number=number, state=new, user_attrs={"old": old.name})
                self.both(lambda storage, study: storage.update_trial(study, trial, expected=old), name)

        @rule(name=studies, owner=st.sampled_from(["me", "you"]))
        def claim(self, name: str, owner: str) -> None:
            if name in self.ids:
                self.both(lambda storage, study: storage.claim_waiting(study, owner, NOW), name)

        @rule(
            name=studies,
            keys=st.lists(
                st.tuples(st.sampled_from("de"), st.integers(0, 1), st.booleans(), st.sampled_from([0, 1, None])),
                max_size=3,
            ),
        )
        def record(self, name: str, keys: list[tuple[str, int, bool, int | None]]) -> None:
            if name in self.ids:
                rows = [
                    row(example, rollout=rollout, status="ok" if ok else "failed", trial=trial, started=0.0)
                    for example, rollout, ok, trial in keys
                ]
                self.both(lambda storage, study: storage.append_evaluations(study, rows), name)

        @rule(name=studies, keys=st.lists(st.tuples(st.sampled_from("pq"), st.sampled_from("123")), max_size=3))
        def extend(self, name: str, keys: list[tuple[str, str]]) -> None:
            if name in self.ids:
                items = [PoolRecord(path=path, id=item, domain={}, value=item) for path, item in keys]
                self.both(lambda storage, study: storage.append_pool(study, items), name)

        @rule(name=studies, what=st.sampled_from(["read_trials", "read_evaluations", "read_pool", "read_study_attrs"]))
        def read_on(self, name: str, what: str) -> None:
            if name in self.ids:
                cursors = self.cursors.get((name, what), (0, 0))
                mine, model = (
                    getattr(storage, what)(study, cursor)
                    for storage, study, cursor in zip((self.mine, self.model), self.ids[name], cursors, strict=True)
                )
                assert _comparable(mine[0]) == _comparable(model[0])
                self.cursors[name, what] = (mine[1], model[1])

        @invariant()
        def they_agree(self) -> None:
            listed = [
                [attrs.evolve(record, id=0) for record in storage.studies()] for storage in (self.mine, self.model)
            ]
            assert listed[0] == listed[1]

        def teardown(self) -> None:
            self.mine.close()

    return Agreement


def _comparable(outcome: Any) -> Any:
    """Without what differs by right: the moment at which a trial was claimed, NaN not being itself."""
    if isinstance(outcome, FrozenTrial):
        return outcome.number, trial_to_text(outcome)
    if isinstance(outcome, list):
        return [_comparable(item) for item in outcome]
    if isinstance(outcome, Evaluation):
        return outcome.to_json()
    return outcome
