"""Under which values of others a variable is there: said by a declared space, or learned from what trials had.

A trial that declares its variables while it runs has no tree of conditions. But when every trial that had ``depth`` had
``kind = "deep"``, and no other trial did, that is one, as far as anyone can tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dspex.trials import FrozenTrial
from dspex.variables import Bool, Choice, Condition, Domain, Int, ModelChoice, Space
from dspex.variables.values import same

__all__ = ["Presence", "Rules", "rules_of"]

Rule = tuple[tuple[str, tuple[Any, ...]], ...]
"""(path, values) each: the variable there is active and has one of the values."""

Rules = dict[str, Rule | None]
"""Of each variable when it is active; ``None`` where it is not, or nobody knows when."""

_MOST_VALUES = 32  # of a variable that others may hang on


def rules_of(space: Space, known: Mapping[str, Any]) -> Rules:
    """When the tunable variables of a space are active, where the values of some are ``known``."""

    def rule(conditions: Sequence[Condition]) -> Rule | None:
        found: list[tuple[str, tuple[Any, ...]]] = []
        for condition in conditions:
            entry = space[condition.path]
            if entry.tunable and condition.path not in known:
                found.append((condition.path, (condition.value,)))
                continue
            value = known.get(condition.path, entry.default)
            outer = rule(entry.conditions)
            if not same(value, condition.value) or outer is None:
                return None
            found += outer
        return tuple(found)

    return {path: rule(space[path].conditions) for path in space.tunable}


class Presence:
    """What the trials of a study had, together and apart."""

    def __init__(self) -> None:
        # Trials with the same variables in the same order are alike; of each kind the values that others may hang on.
        self._kinds: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
        self._domains: dict[str, Domain[Any]] = {}
        self._rules: Rules | None = None

    def add(self, trial: FrozenTrial) -> None:
        """Notes which variables a trial had, and what the others were then."""
        kind = tuple(trial.distributions)
        self._domains.update(trial.distributions)
        seen = self._kinds.get(kind)
        if seen is None:
            listed = [path for path, domain in trial.distributions.items() if _is_short(domain)]
            seen = self._kinds[kind] = {path: {} for path in listed}
            self._rules = None
        for path, values in seen.items():
            value = trial.params[path]
            if repr(value) not in values:
                values[repr(value)] = value
                self._rules = None

    @property
    def domains(self) -> dict[str, Domain[Any]]:
        """The variables seen so far, with the domains that were last seen, in an order in which trials had them."""
        return dict(self._domains)

    def rules(self) -> Rules:
        """When each variable is there: always, under values of one other, or nobody knows when."""
        if self._rules is None:
            self._rules = {path: self._rule(path) for path in self._domains}
        return self._rules

    def _rule(self, path: str) -> Rule | None:
        having = [kind for kind in self._kinds if path in kind]
        if len(having) == len(self._kinds):
            return ()
        for parent in self._kinds[having[0]]:
            if all(parent in self._kinds[kind] and kind.index(parent) < kind.index(path) for kind in having):
                inside = {key: value for kind in having for key, value in self._kinds[kind][parent].items()}
                outside = {
                    key
                    for kind, seen in self._kinds.items()
                    if path not in kind and parent in seen
                    for key in seen[parent]
                }
                if not outside & set(inside):
                    return ((parent, tuple(inside.values())),)
        return None


def _is_short(domain: Domain[Any]) -> bool:
    return isinstance(domain, Bool | Choice | Int | ModelChoice) and domain.size() <= _MOST_VALUES
