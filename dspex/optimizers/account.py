"""What a search has consumed, over all its runs, and how that counts against its budget.

The rows of the ledger say what the evaluations took. What no row says (proposals, demonstrations, the metric's own
calls, the seconds on the clock) is kept with the study as it is spent, so that a run that is killed has not spent it
for nothing: the next one starts with what is left.
"""

from __future__ import annotations

import threading
import time
import uuid
import weakref
from types import TracebackType

from dspex.data import Usage
from dspex.execution import Amounts, Budget
from dspex.study import Study

__all__ = ["Account"]

_ACCOUNT = "account"
_OVERHEAD = "overhead"
_SECONDS = "seconds"
_WRITE_EVERY = 1.0  # seconds on the clock that a kill may lose

# What each budget has counted of each study, so that the same line run again with the same object charges it once.
_counted: weakref.WeakKeyDictionary[Budget, dict[tuple[str, str], tuple[Usage, float]]] = weakref.WeakKeyDictionary()


class Account:
    """The account of one run of a search, which knows those of the runs before; a context manager, for the run.

    Entering charges ``budget`` with what earlier runs have spent and it has not counted itself, and starts its clock.
    """

    def __init__(self, study: Study, heldout: Study, budget: Budget | None) -> None:
        self._study = study
        self._heldout = heldout
        self._budget = budget
        known = study.system_attrs
        self._overhead = Usage.from_json(known.get(_OVERHEAD, {}))
        self._before = float(known.get(_SECONDS, 0.0))
        self._began = self._written = time.monotonic()
        self._lock = threading.Lock()
        # A derived name may be in several storages, and a storage may be opened several times.
        if _ACCOUNT not in known:
            study.set_system_attr(_ACCOUNT, uuid.uuid4().hex)
        self._key = (study.system_attrs[_ACCOUNT], study.study_name)
        self.allowance = Amounts()
        """How much of each limit the search may use in all its runs: what others have left of the budget to it."""

    def __enter__(self) -> Account:
        budget = self._budget
        if budget is not None:
            usage, seconds = self.usage(), self._before
            counted, counted_seconds = _counted.get(budget, {}).get(self._key, (Usage(), 0.0))
            budget.charge(usage.beyond(counted), seconds=max(0.0, seconds - counted_seconds))
            self.allowance = _allowance(budget, usage, seconds)
            budget.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._write_seconds()
        if self._budget is not None:
            _counted.setdefault(self._budget, {})[self._key] = (self.usage(), self.seconds)

    @property
    def seconds(self) -> float:
        """On the clock, in all runs."""
        return self._before + time.monotonic() - self._began

    def usage(self) -> Usage:
        """What the search and its held-out comparison took in all runs."""
        return self.search_usage() + self._heldout.ledger.usage()

    def search_usage(self) -> Usage:
        """What the search took in all runs, proposals and metric included."""
        return self._study.ledger.usage() + self._overhead

    def add(self, usage: Usage) -> None:
        """Count what no row of a ledger tells; it is in storage when this returns."""
        with self._lock:
            if usage:
                self._overhead.add(usage)
                self._study.set_system_attr(_OVERHEAD, self._overhead.to_json())
        self.tick()

    def tick(self) -> None:
        """Write the clock down, when it is time; to be called whenever something was done."""
        if time.monotonic() - self._written >= _WRITE_EVERY:
            self._write_seconds()

    def _write_seconds(self) -> None:
        with self._lock:
            self._written = time.monotonic()
            self._study.set_system_attr(_SECONDS, self.seconds)


def _allowance(budget: Budget, usage: Usage, seconds: float) -> Amounts:
    spent = budget.to_json()["spent"]
    mine = {
        "usd": usage.known_cost,
        "tokens": usage.total_tokens,
        "calls": usage.calls + usage.failed_calls,
        "seconds": seconds,
    }
    left = {
        name: limit - max(0, spent[name] - mine[name])
        for name, limit in budget.limits._asdict().items()
        if limit is not None
    }
    return Amounts(**left)
