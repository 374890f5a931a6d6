"""What of a budget is kept for the held-out comparison, and so how much the search may still do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from dspex.data import Evaluation, Usage
from dspex.errors import BudgetExceeded
from dspex.execution import Amounts, Budget
from dspex.optimizers.account import Account
from dspex.optimizers.heldout import Heldout
from dspex.study import Study
from dspex.variables import VariableState

__all__ = ["HELDOUT_SHARE", "Reserve"]

HELDOUT_SHARE = 0.4
"""The most of a limit that is kept for the held-out comparison."""

_MARGIN = 1.1  # examples differ in what they take, and the held-out ones may be the dearer ones
_ENDED = "ended"
_PORTIONS = "portions"
_LIMITS = ("calls", "tokens", "usd", "seconds")

T = TypeVar("T")


class Reserve:
    """Says how many more runs of the program fit into a budget beside the held-out comparison.

    The comparison runs the start and the winner on every held-out example that is not paid for yet. What that takes is
    judged by what each of the two took per example in the search. As long as the start is the best there may be no
    winner to run, so only half is kept for one: if there is one in the end, it is compared on fewer examples.
    Where all that would be more than `HELDOUT_SHARE` of a limit, that share has to do.

    Once a search has used up its share it has ended for good: run again with no more to spend, it does not go on
    with what the comparison left, as its winner would change from run to run.
    """

    def __init__(self, budget: Budget | None, account: Account, study: Study, heldout: Heldout) -> None:
        self._budget = budget
        self._account = account
        self._study = study
        self._heldout = heldout
        self._taken: dict[str, _Taken] = {}
        self._all = _Taken()
        known = study.system_attrs.get(_PORTIONS, {})
        self._judged = _Taken()
        self._judged.add(Usage.from_json(known.get("judged", {})), known.get("examples", 0))
        self._seconds: float = known.get("seconds", 0.0)
        self._clocked: int = known.get("clocked", 0)  # examples
        self._warm = False  # the first portion of a process also loads what is loaded on first use
        for row in study.ledger:
            self.note(row)
        ended = study.system_attrs.get(_ENDED)
        self._ended: str | None = None
        if ended is not None and not _more(account.allowance, Amounts(**ended["allowance"])):
            self._ended = ended["reason"]

    def note(self, row: Evaluation) -> None:
        """Count in what one example took."""
        self._taken.setdefault(row.fingerprint, _Taken()).add(row.usage, 1)
        self._all.add(row.usage, 1)

    def note_portion(self, judged: Usage, seconds: float, examples: int) -> None:
        """Count in what the metric itself and the clock took for some examples that were run together."""
        self._judged.add(judged, examples)
        if self._warm:
            self._seconds += seconds
            self._clocked += examples
        self._warm = True
        if self._budget is not None or judged:
            self._study.set_system_attr(
                _PORTIONS,
                {
                    "judged": self._judged.usage.to_json(),
                    "examples": self._judged.examples,
                    "seconds": self._seconds,
                    "clocked": self._clocked,
                },
            )

    def allow(self, states: Sequence[VariableState], start: VariableState, best: VariableState) -> int:
        """How many further runs may be begun, of those of ``states`` in this order; at least one.

        Raises:
            BudgetExceeded: none may; what is left is kept for the held-out comparison.
        """
        budget = self._budget
        if budget is None:
            return len(states)
        if self._ended is not None:
            raise BudgetExceeded(self._ended)
        budget.check()
        limits, left = budget.limits, budget.remaining()
        for_start, for_winner = self._heldout.missing(start), float(self._heldout.missing(best))
        if best.fingerprint == start.fingerprint:
            for_winner = len(self._heldout.examples) / 2
        allowed = len(states)
        for name in _LIMITS:
            limit, remaining = getattr(limits, name), getattr(left, name)
            if limit is None:
                continue
            of_start, of_winner = (self._each(name, one.fingerprint) for one in (start, best))
            total = 0.0
            for fitting, state in enumerate(states):
                each = self._each(name, state.fingerprint)
                of_winner = max(of_winner, each)  # it may be the winner next
                total += each
                needed = _MARGIN * (for_start * of_start + for_winner * of_winner)
                if total > remaining - min(needed, HELDOUT_SHARE * limit) + 1e-9 * each and each:
                    allowed = min(allowed, fitting)
                    break
            if not allowed:
                raise BudgetExceeded(
                    f"the search's share of {budget!r} is used: the {name} that are left are kept for the "
                    "held-out comparison"
                )
        return allowed

    def portions(
        self,
        new: Sequence[T],
        again: Sequence[T],
        state_of: Callable[[T], VariableState],
        start: VariableState,
        best: VariableState,
        *,
        concurrency: int,
    ) -> Iterator[Sequence[T]]:
        """Runs in portions, so that between them it can be seen what is still allowed; without a budget, all at once.

        Those to be tried ``again`` have failed before and come last. A search can do without them, so where the
        budget does not allow them, they stay failed.

        Raises:
            BudgetExceeded: not all ``new`` ones were allowed.
        """
        wanted = [*new, *again]
        done = 0
        while done < len(wanted):
            portion = wanted[done:] if self._budget is None else wanted[done : done + 2 * concurrency]
            try:
                count = self.allow(list(map(state_of, portion)), start, best)
            except BudgetExceeded:
                if done < len(new):
                    raise
                return
            yield portion[:count]
            done += count

    def end(self, reason: str) -> None:
        """Note with the study that the budget has ended the search, so that it ends here when it is run again."""
        allowance = self._account.allowance._asdict()
        self._study.set_system_attr(_ENDED, {"reason": reason, "allowance": allowance})

    def _each(self, name: str, fingerprint: str) -> float:
        """What one run of a configuration takes, or of any where nothing is known of it."""
        if name == "seconds":
            return self._seconds / self._clocked if self._clocked else 0.0
        return self._taken.get(fingerprint, self._all).each(name) + self._judged.each(name)


class _Taken:
    """What some examples took together."""

    __slots__ = ("examples", "usage")

    def __init__(self) -> None:
        self.usage = Usage()
        self.examples = 0

    def add(self, usage: Usage, examples: int) -> None:
        self.usage.add(usage)
        self.examples += examples

    def each(self, name: str) -> float:
        """What one took, or would have taken without a cache: held-out examples are in none."""
        if not self.examples:
            return 0.0
        usage = self.usage
        if name == "usd":
            return (usage.known_cost + (usage.saved_cost or 0.0)) / self.examples
        if name == "calls":
            return (usage.calls + usage.cached_calls + usage.failed_calls) / self.examples
        return (usage.total_tokens + usage.saved_tokens) / self.examples


def _more(now: Amounts, before: Amounts) -> bool:
    """Whether some limit that there was has been raised, or taken away."""
    for name, old in before._asdict().items():
        new = getattr(now, name)
        # What other searches have left of the seconds differs a little from run to run.
        slack = max(1.0, 0.01 * (old or 0)) if name == "seconds" else 1e-9 * (old or 0)
        if old is not None and (new is None or new > old + slack):
            return True
    return False
