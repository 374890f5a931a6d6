"""What every storage has to do, as tests that a backend of one's own can be put through too.

They need pytest and hypothesis, which come with the ``test`` extra. In a test module::

    class TestMine(StorageSuite):
        def open(self) -> Storage:
            return MyStorage(...)  # a new, empty one

    TestAgreement = agreement(lambda: MyStorage(...)).TestCase
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

import attrs
import pytest

from dspex.data import Usage
from dspex.errors import StudyError
from dspex.storage import Storage
from dspex.storage.rows import trial_to_text
from dspex.testing.agreement import agreement
from dspex.testing.records import NOW, everything, row, running
from dspex.trials import AttrRecord, PoolRecord, StudyDirection, StudyRecord, TrialState
from dspex.variables import Int

__all__ = ["StorageSuite", "agreement"]

MINIMIZE, MAXIMIZE = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE


class StorageSuite(ABC):
    """The tests; a subclass whose name starts with ``Test`` says how a storage is opened."""

    @abstractmethod
    def open(self) -> Storage:
        """A new, empty storage."""

    @pytest.fixture
    def storage(self) -> Storage:
        return self.open()

    @pytest.fixture
    def study(self, storage: Storage) -> StudyRecord:
        return storage.create_study("study", [MINIMIZE])

    # Studies

    def test_a_study_is_found_as_it_was_created(self, storage: Storage) -> None:
        created = storage.create_study("one", [MINIMIZE, MAXIMIZE], space={"a": [1, "ü"]})
        storage.create_study("two", [MAXIMIZE])
        assert storage.get_study("one") == created
        assert created.directions == (MINIMIZE, MAXIMIZE)
        assert created.space == {"a": [1, "ü"]}
        assert [record.name for record in storage.studies()] == ["one", "two"]

    def test_a_name_is_taken_once(self, storage: Storage, study: StudyRecord) -> None:
        with pytest.raises(StudyError, match=r"there is a study named 'study' already.*load_if_exists=True"):
            storage.create_study("study", [MINIMIZE])

    def test_an_unknown_study_is_named_with_the_known_ones(self, storage: Storage, study: StudyRecord) -> None:
        with pytest.raises(StudyError, match=r"no study named 'stduy' in this storage; there are: 'study'"):
            storage.get_study("stduy")

    def test_a_deleted_study_is_gone_with_all_it_had(self, storage: Storage, study: StudyRecord) -> None:
        other = storage.create_study("other", [MINIMIZE])
        for record in (study, other):
            storage.append_trials(record.id, [running()])
            storage.append_evaluations(record.id, [row()])
            storage.set_study_attr(record.id, "user", "note", 1)
        storage.delete_study(study.id)
        assert [record.name for record in storage.studies()] == ["other"]
        assert len(storage.read_trials(other.id)[0]) == len(storage.read_evaluations(other.id)[0]) == 1
        for call in (
            lambda: storage.read_trials(study.id),
            lambda: storage.append_trials(study.id, [running()]),
            lambda: storage.append_evaluations(study.id, [row()]),
            lambda: storage.read_pool(study.id),
            lambda: storage.delete_study(study.id),
            lambda: storage.set_study_attr(study.id, "user", "a", 1),
            lambda: storage.swap_study_attr(study.id, "user", "a", 1, expected=None),
            lambda: storage.read_study_attrs(study.id),
        ):
            with pytest.raises(StudyError, match="study 'study' was deleted"):
                call()
        again = storage.create_study("study", [MINIMIZE])
        assert storage.read_trials(again.id)[0] == []
        assert storage.read_study_attrs(again.id)[0] == []
        assert len(storage.read_study_attrs(other.id)[0]) == 1

    def test_the_id_of_a_deleted_study_is_not_used_again(self, storage: Storage, study: StudyRecord) -> None:
        storage.delete_study(study.id)
        other = storage.create_study("other", [MINIMIZE])
        assert other.id != study.id
        with pytest.raises(StudyError, match="study 'study' was deleted"):
            storage.append_trials(study.id, [running()])
        assert storage.read_trials(other.id)[0] == []

    def test_a_space_is_kept(self, storage: Storage, study: StudyRecord) -> None:
        storage.set_space(study.id, {"entries": []})
        assert storage.get_study("study").space == {"entries": []}

    # Attributes

    def test_attributes_are_kept_as_they_were_set_last(self, storage: Storage, study: StudyRecord) -> None:
        storage.set_study_attr(study.id, "user", "note", {"a": (1, 2)})
        storage.set_study_attr(study.id, "user", "pair", {"a": (1, 2), "b": "naïve \x00 \ud800"})
        storage.set_study_attr(study.id, "user", "note", [None, "ß"])
        storage.set_study_attr(study.id, "system", "note", True)
        found, cursor = storage.read_study_attrs(study.id)
        assert found == [
            AttrRecord("user", "pair", {"a": (1, 2), "b": "naïve \x00 \ud800"}),
            AttrRecord("user", "note", [None, "ß"]),
            AttrRecord("system", "note", True),
        ]
        assert storage.read_study_attrs(study.id, cursor) == ([], cursor)
        storage.set_study_attr(study.id, "user", "pair", 3)
        assert storage.read_study_attrs(study.id, cursor)[0] == [AttrRecord("user", "pair", 3)]
        assert len(storage.read_study_attrs(study.id)[0]) == 3

    def test_attributes_of_studies_are_apart(self, storage: Storage, study: StudyRecord) -> None:
        other = storage.create_study("other", [MINIMIZE])
        storage.set_study_attr(study.id, "user", "note", 1)
        storage.set_study_attr(other.id, "user", "note", 2)
        assert storage.read_study_attrs(study.id)[0] == [AttrRecord("user", "note", 1)]

    def test_an_attribute_is_swapped_only_for_what_it_was(self, storage: Storage, study: StudyRecord) -> None:
        assert not storage.swap_study_attr(study.id, "system", "who", "b", expected="a")
        assert storage.swap_study_attr(study.id, "system", "who", "a", expected=None)
        assert not storage.swap_study_attr(study.id, "system", "who", "b", expected=None)
        assert storage.swap_study_attr(study.id, "system", "who", ("b", 1), expected="a")
        assert storage.swap_study_attr(study.id, "system", "who", None, expected=("b", 1))
        assert storage.swap_study_attr(study.id, "system", "who", "c", expected=None)
        assert storage.read_study_attrs(study.id)[0] == [AttrRecord("system", "who", "c")]

    def test_of_threads_that_swap_one_succeeds(self, storage: Storage, study: StudyRecord) -> None:
        won: list[str] = []

        def work() -> None:
            for turn in range(4):
                me = f"{threading.current_thread().name}-{turn}"
                if storage.swap_study_attr(study.id, "system", f"who-{turn}", me, expected=None):
                    won.append(me)
                storage.set_study_attr(study.id, "user", me, turn)

        _in_threads(work, 4)
        assert sorted(name.rpartition("-")[2] for name in won) == ["0", "1", "2", "3"]
        found = [item.value for item in storage.read_study_attrs(study.id)[0] if item.kind == "system"]
        assert sorted(found) == sorted(won)
        assert len(storage.read_study_attrs(study.id)[0]) == 20

    # Trials

    def test_trials_are_numbered_without_gaps(self, storage: Storage, study: StudyRecord) -> None:
        first = storage.append_trials(study.id, [running(), running()])
        second = storage.append_trials(study.id, [running()])
        assert [trial.number for trial in first + second] == [0, 1, 2]
        other = storage.create_study("other", [MINIMIZE])
        assert storage.append_trials(other.id, [running()])[0].number == 0
        assert storage.append_trials(other.id, []) == []

    def test_every_field_of_a_trial_survives(self, storage: Storage, study: StudyRecord) -> None:
        added = storage.append_trials(study.id, [everything()])[0]
        found = storage.read_trials(study.id)[0][0]
        assert trial_to_text(found) == trial_to_text(added)  # as text, because NaN is not equal to itself
        assert (found.number, dict(found.params)) == (0, dict(added.params))
        assert type(found.params["c"]) is tuple
        assert math.isnan(found.intermediate_values[10])

    def test_an_update_replaces_the_trial(self, storage: Storage, study: StudyRecord) -> None:
        trial = storage.append_trials(study.id, [running()])[0]
        changed = attrs.evolve(trial, params={"k": 2}, distributions={"k": Int(1, 5)})
        storage.update_trial(study.id, changed, expected=TrialState.RUNNING)
        assert storage.read_trials(study.id)[0] == [changed]

    def test_a_finished_trial_is_final(self, storage: Storage, study: StudyRecord) -> None:
        trial = storage.append_trials(study.id, [running()])[0]
        done = attrs.evolve(trial, state=TrialState.COMPLETE, values=(1.0,))
        storage.update_trial(study.id, done, expected=TrialState.RUNNING)
        with pytest.raises(StudyError, match=r"trial 0 has finished already \(COMPLETE\)"):
            storage.update_trial(study.id, trial, expected=TrialState.RUNNING)
        assert storage.read_trials(study.id)[0] == [done]

    def test_an_unknown_trial_is_not_updated(self, storage: Storage, study: StudyRecord) -> None:
        with pytest.raises(StudyError, match=r"there is no trial 7; the study has 0 trials"):
            storage.update_trial(study.id, running(number=7), expected=TrialState.RUNNING)

    def test_a_cursor_reads_each_change_once(self, storage: Storage, study: StudyRecord) -> None:
        storage.append_trials(study.id, [running(), running(), running()])
        trials, cursor = storage.read_trials(study.id)
        assert [trial.number for trial in trials] == [0, 1, 2]
        assert storage.read_trials(study.id, cursor) == ([], cursor)
        storage.update_trial(study.id, attrs.evolve(trials[1], user_attrs={"a": 1}), expected=TrialState.RUNNING)
        storage.update_trial(study.id, attrs.evolve(trials[0], user_attrs={"a": 2}), expected=TrialState.RUNNING)
        changed, cursor = storage.read_trials(study.id, cursor)
        assert [(trial.number, dict(trial.user_attrs)) for trial in changed] == [(1, {"a": 1}), (0, {"a": 2})]
        assert storage.read_trials(study.id, cursor)[0] == []

    def test_waiting_trials_are_claimed_once_each_smallest_first(self, storage: Storage, study: StudyRecord) -> None:
        waiting = running(state=TrialState.WAITING, owner="", system_attrs={"fixed_params": {"k": 1}})
        storage.append_trials(study.id, [running(), waiting, waiting])
        claimed = [storage.claim_waiting(study.id, owner, NOW) for owner in ("a", "b", "c")]
        assert [None if trial is None else (trial.number, trial.owner) for trial in claimed] == [
            (1, "a"),
            (2, "b"),
            None,
        ]
        assert claimed[0] is not None
        assert claimed[0].state is TrialState.RUNNING
        assert claimed[0].datetime_start == NOW
        assert claimed[0].fixed_params == {"k": 1}

    def test_a_trial_that_was_put_back_is_claimed_again(self, storage: Storage, study: StudyRecord) -> None:
        trial = storage.append_trials(study.id, [running(params={"k": 2}, distributions={"k": Int(1, 5)})])[0]
        storage.update_trial(study.id, attrs.evolve(trial, state=TrialState.WAITING), expected=TrialState.RUNNING)
        claimed = storage.claim_waiting(study.id, "other", NOW)
        assert claimed is not None
        assert (claimed.number, claimed.params, claimed.owner) == (0, {"k": 2}, "other")
        with pytest.raises(StudyError, match="trial 0 is RUNNING, not WAITING"):
            storage.update_trial(study.id, trial, expected=TrialState.WAITING)

    def test_threads_get_different_numbers_and_claims(self, storage: Storage, study: StudyRecord) -> None:
        waiting = running(state=TrialState.WAITING)
        storage.append_trials(study.id, [waiting] * 8)
        numbers: list[int] = []
        claims: list[int] = []

        def work() -> None:
            for _ in range(4):
                numbers.extend(trial.number for trial in storage.append_trials(study.id, [running(), running()]))
                claimed = storage.claim_waiting(study.id, threading.current_thread().name, NOW)
                if claimed is not None:
                    claims.append(claimed.number)

        _in_threads(work, 4)
        assert sorted(numbers) == list(range(8, 40))
        assert sorted(claims) == list(range(8))
        assert len(storage.read_trials(study.id)[0]) == 40

    # Evaluations

    def test_rows_come_back_as_they_were(self, storage: Storage, study: StudyRecord) -> None:
        rows = [
            row(
                feedback="naïve \x00 \ud800",
                latency=0.25,
                usage=Usage(calls=2, prompt_tokens=10, cost=None),
                output={"a": [1]},
            ),
            row("e2", trial=None, scores={"score": 0.1, "cost": math.inf}),
            row("e3", status="failed", scores={}, error="LMTimeoutError: late"),
        ]
        storage.append_evaluations(study.id, rows[:2])
        storage.append_evaluations(study.id, [])
        storage.append_evaluations(study.id, rows[2:])
        found, cursor = storage.read_evaluations(study.id)
        assert [item.to_json() for item in found] == [item.to_json() for item in rows]
        assert storage.read_evaluations(study.id, cursor) == ([], cursor)
        storage.append_evaluations(study.id, [row("e4")])
        assert [item.example_id for item in storage.read_evaluations(study.id, cursor)[0]] == ["e4"]

    def test_a_measured_row_is_final_and_a_failed_one_is_not(self, storage: Storage, study: StudyRecord) -> None:
        failed = row(status="failed", scores={})
        storage.append_evaluations(study.id, [failed])
        storage.append_evaluations(study.id, [failed, row("e2")])
        storage.append_evaluations(study.id, [row()])
        with pytest.raises(StudyError, match=r"trial 0 has been measured on example 'e1' \(rollout 0\) already"):
            storage.append_evaluations(study.id, [row("e3"), row()])
        with pytest.raises(StudyError, match="already"):
            storage.append_evaluations(study.id, [row("e5"), row("e5")])
        storage.append_evaluations(study.id, [attrs.evolve(failed, example_id="e6"), row("e6")])
        storage.append_evaluations(study.id, [row(rollout=1), row(trial=1), row(trial=None), row(fingerprint="cd")])
        found = [(item.example_id, item.status) for item in storage.read_evaluations(study.id)[0]]
        assert found[:4] == [("e1", "failed"), ("e1", "failed"), ("e2", "ok"), ("e1", "ok")]
        assert len(found) == 10

    def test_threads_lose_no_row_and_write_none_twice(self, storage: Storage, study: StudyRecord) -> None:
        refused: list[str] = []

        def work(worker: int = 0) -> None:
            for index in range(10):
                storage.append_evaluations(study.id, [row(f"{threading.current_thread().name}-{index}")])
                try:
                    storage.append_evaluations(study.id, [row(f"shared-{index}")])
                except StudyError:
                    refused.append(f"shared-{index}")

        _in_threads(work, 4)
        found = [item.example_id for item in storage.read_evaluations(study.id)[0]]
        assert len(found) == len(set(found)) == 50
        assert len(refused) == 30

    # Pools

    def test_candidates_are_kept_once_and_in_order(self, storage: Storage, study: StudyRecord) -> None:
        first = PoolRecord(path="p", id="1", domain={"type": "Prompt"}, value="eins")
        second = PoolRecord(
            path="p", id="2", domain={"type": "Prompt"}, value="zwei", parents=("1",), source="lm", note="n",
            metadata={"a": 1},
        )  # fmt: skip
        elsewhere = attrs.evolve(first, path="q")
        storage.append_pool(study.id, [first, first])
        storage.append_pool(study.id, [])
        found, cursor = storage.read_pool(study.id)
        assert found == [first]
        storage.append_pool(study.id, [attrs.evolve(first, note="changed"), second, elsewhere])
        assert storage.read_pool(study.id, cursor)[0] == [second, elsewhere]
        assert storage.read_pool(study.id)[0] == [first, second, elsewhere]

    # Owners

    def test_the_last_beat_is_kept(self, storage: Storage) -> None:
        assert storage.last_beat("me") is None
        storage.beat("me", 1.5)
        storage.beat("me", 2.5)
        storage.beat("you", 9.0)
        assert storage.last_beat("me") == 2.5

    def test_it_opens_again_after_it_was_closed(self, storage: Storage, study: StudyRecord) -> None:
        storage.close()
        storage.close()
        assert storage.append_trials(study.id, [running()])[0].number == 0


def _in_threads(work: Callable[[], None], count: int) -> None:
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, name=f"worker-{index}") for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
