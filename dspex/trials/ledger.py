"""The ledger: every evaluation of a study, one row per (trial, example, rollout)."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import attrs

from dspex.data import Evaluation, Usage
from dspex.errors import StudyError
from dspex.forks import held_at_forks

__all__ = ["Ledger", "ScoreMatrix"]


@attrs.frozen
class ScoreMatrix:
    """Scores of trials (rows) on examples (columns); NaN where nothing was measured."""

    trials: tuple[int, ...]
    examples: tuple[str, ...]
    scores: tuple[tuple[float, ...], ...]


class Ledger(Sequence[Evaluation]):
    """All evaluations of a study in the order in which they were recorded. It only ever grows.

    Thread-safe. A failed row is kept with what it cost, and a later row for the same (trial, example,
    rollout) stands in its place wherever scores are read. A measured row is final.

    >>> ledger = Ledger()
    >>> row = Evaluation(example_id="e1", status="ok", scores={"score": 1.0}, trial=0, fingerprint="ab")
    >>> ledger.append(row)
    >>> ledger.lookup("ab", "e1").scores
    {'score': 1.0}
    >>> ledger.matrix().scores
    ((1.0,),)
    """

    def __init__(self, rows: Iterable[Evaluation] = ()) -> None:
        self._rows: list[Evaluation] = []  # the truth; what follows is an index of it, and lags behind after Ctrl-C
        self._paid: dict[tuple[str, str, int], Evaluation] = {}
        self._by_trial: dict[int | None, dict[tuple[str, str, int], Evaluation]] = {}
        self._trials_of: dict[str, dict[int | None, None]] = {}  # fingerprint -> its trials, in order
        self._indexed = (Usage(), 0)  # what the first rows consumed, and how many they are
        self._lock = held_at_forks(threading.Lock(), order=4)
        self.append(*rows)

    def append(self, *rows: Evaluation) -> None:
        """Adds rows.

        Raises:
            StudyError: when (trial, example, rollout) has been measured already; then no row is added.
        """
        with self._lock:
            self._index()
            seen: set[tuple[int | None, str, str, int]] = set()
            for row in rows:
                key = (row.fingerprint, row.example_id, row.rollout)
                old = self._by_trial.get(row.trial, {}).get(key)
                if (old is not None and old.ok) or (row.trial, *key) in seen:
                    raise already_recorded(row)
                if row.ok:
                    seen.add((row.trial, *key))
            self._rows.extend(rows)
            self._index()

    def _index(self) -> None:
        """Brings the index up to date. It may be broken off anywhere, and begins anew then."""
        usage, count = self._indexed
        if count == len(self._rows):
            return
        usage = usage.copy()
        for row in self._rows[count:]:
            key = (row.fingerprint, row.example_id, row.rollout)
            self._by_trial.setdefault(row.trial, {})[key] = row
            self._trials_of.setdefault(row.fingerprint, {})[row.trial] = None
            if row.ok and row.fingerprint:
                self._paid.setdefault(key, row)
            usage.add(row.usage)
        self._indexed = (usage, len(self._rows))

    def lookup(self, fingerprint: str, example_id: str, rollout: int = 0) -> Evaluation | None:
        """The measured row of a configuration on an example, whichever trial paid for it, or ``None``."""
        return self._paid.get((fingerprint, example_id, rollout))

    def rows(
        self, *, trial: int | None = None, fingerprint: str | None = None, example_id: str | None = None
    ) -> list[Evaluation]:
        """The rows that scores are read from, of one trial, configuration or example, in recorded order.

        A failed row is among them only while nothing was measured in its place; iterating over the ledger
        gives every row.
        """
        with self._lock:
            trials: Iterable[int | None]
            if trial is not None:
                trials = (trial,)
            else:
                trials = self._by_trial if fingerprint is None else self._trials_of.get(fingerprint, ())
            found = [row for number in trials for row in self._by_trial.get(number, {}).values()]
        return [
            row
            for row in found
            if (fingerprint is None or row.fingerprint == fingerprint)
            and (example_id is None or row.example_id == example_id)
        ]

    def scores(self, trial: int, *, objective: str = "score") -> dict[str, float]:
        """Example id → mean score over the rollouts that were measured for ``trial``."""
        sums: dict[str, tuple[float, int]] = {}
        for row in self.rows(trial=trial):
            if row.ok and objective in row.scores:
                total, count = sums.get(row.example_id, (0.0, 0))
                sums[row.example_id] = (total + row.scores[objective], count + 1)
        return {example: total / count for example, (total, count) in sums.items()}

    def matrix(
        self,
        *,
        objective: str = "score",
        trials: Sequence[int] | None = None,
        examples: Sequence[str] | None = None,
    ) -> ScoreMatrix:
        """Scores of ``trials`` on ``examples`` (default: all that have any), rollouts averaged."""
        with self._lock:
            numbers = sorted(n for n in self._by_trial if n is not None) if trials is None else list(trials)
        table = {number: self.scores(number, objective=objective) for number in numbers}
        if trials is None:
            numbers = [number for number in numbers if table[number]]
        if examples is None:
            examples = list(dict.fromkeys(example for number in numbers for example in table[number]))
        return ScoreMatrix(
            trials=tuple(numbers),
            examples=tuple(examples),
            scores=tuple(tuple(table[n].get(e, math.nan) for e in examples) for n in numbers),
        )

    def usage(self) -> Usage:
        """What all rows consumed together, the failed ones included."""
        with self._lock:
            return self._indexed[0].copy()

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Evaluation]:
        with self._lock:
            return iter(list(self._rows))

    @overload
    def __getitem__(self, index: int) -> Evaluation: ...

    @overload
    def __getitem__(self, index: slice) -> list[Evaluation]: ...

    def __getitem__(self, index: int | slice) -> Evaluation | list[Evaluation]:
        return self._rows[index]

    def __repr__(self) -> str:
        trials = len(self._by_trial.keys() - {None})
        return f"<Ledger: {len(self._rows)} evaluations of {trials} trials, {self.usage()}>"


def already_recorded(row: Evaluation) -> StudyError:
    """The error for a second measurement of the same thing; every storage raises the same."""
    return StudyError(
        f"trial {row.trial} has been measured on example {row.example_id!r} (rollout {row.rollout}) already. "
        "A measured row is final; record another rollout, or read it with "
        "study.ledger.lookup(fingerprint, example_id, rollout)"
    )
