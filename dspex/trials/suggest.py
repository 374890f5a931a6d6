"""The ``suggest_...`` methods, written once for whatever can give a value for a domain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from dspex.errors import StudyError
from dspex.variables import Bool, Choice, Demos, Domain, Float, Int, ModelChoice, Order, Prompt, Subset

__all__ = ["Suggestions", "check_name"]

T = TypeVar("T")
M = TypeVar("M")


class Suggestions(ABC):
    """Gives values for variables that an objective declares while it runs.

    A name keeps its domain: asking for it again gives the same value, and asking with another domain is an
    error.
    """

    @abstractmethod
    def suggest(self, name: str, domain: Domain[T]) -> T:
        """A value of ``domain`` for the variable ``name``; the other methods are spellings of this one."""

    @abstractmethod
    def _extend_pool(self, name: str, domain: Domain[Any], candidates: Iterable[Any]) -> None:
        """Adds candidates to the pool of an open-ended variable."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number between ``low`` and ``high``, both included."""
        return self.suggest(name, _declared(Float, low, high, step=step, log=log))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number between ``low`` and ``high``, both included."""
        return self.suggest(name, _declared(Int, low, high, step=step, log=log))

    def suggest_bool(self, name: str) -> bool:
        """``True`` or ``False``."""
        return self.suggest(name, Bool())

    def suggest_categorical(self, name: str, choices: Sequence[T]) -> T:
        """One of ``choices``."""
        domain: Domain[T] = _declared(Choice, *_sequence(name, "choices", choices))
        return self.suggest(name, domain)

    def suggest_subset(
        self, name: str, options: Sequence[T], *, min_size: int = 0, max_size: int | None = None
    ) -> tuple[T, ...]:
        """Some of ``options``, in their order."""
        domain = Subset(*_sequence(name, "options", options), min_size=min_size, max_size=max_size)
        return self.suggest(name, domain)

    def suggest_order(self, name: str, options: Sequence[T]) -> tuple[T, ...]:
        """All of ``options``, in some order."""
        return self.suggest(name, Order(*_sequence(name, "options", options)))

    def suggest_model(self, name: str, models: Sequence[str]) -> str:
        """One of the models, each as ``"provider/model"``."""
        return self.suggest(name, ModelChoice(*_sequence(name, "models", models)))

    def suggest_prompt(self, name: str, candidates: Sequence[str] = (), *, max_chars: int | None = None) -> str:
        """A text from the study's pool for ``name``, to which ``candidates`` are added first."""
        domain = Prompt(max_chars=max_chars)
        self._extend_pool(name, domain, _sequence(name, "candidates", candidates))
        return self.suggest(name, domain)

    def suggest_demos(
        self, name: str, candidates: Sequence[Sequence[Any]] = (), *, max_demos: int = 16
    ) -> tuple[Any, ...]:
        """Demonstrations from the study's pool for ``name``, to which ``candidates`` are added first."""
        domain = Demos(max_demos=max_demos)
        self._extend_pool(name, domain, _sequence(name, "candidates", candidates))
        return self.suggest(name, domain)

    def suggest_module(self, name: str, alternatives: Mapping[str, M] | None = None, **named: M) -> M:
        """One of the named alternatives: modules, functions, anything; by name, as a mapping or as keywords.

        The choice is a variable of its own, so variables that are suggested only for one alternative are
        modelled on the trials that took it.
        """
        choices = _named(name, alternatives, named)
        return choices[self.suggest(name, Choice(*choices))]


def _declared(kind: Callable[..., Domain[T]], *arguments: Any, **keywords: Any) -> Domain[T]:
    """``kind(*arguments, **keywords)``; trial after trial declares the same, and a domain never changes."""
    if _PLAIN.issuperset(map(type, arguments)) and _PLAIN.issuperset(map(type, keywords.values())):
        kept: Domain[T] = _kept(kind, *arguments, **keywords)
        return kept
    return kind(*arguments, **keywords)


_PLAIN = frozenset({str, int, float, bool, type(None)})  # two of one type that are equal are the same


@lru_cache(maxsize=1024, typed=True)
def _kept(kind: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    return kind(*arguments, **keywords)


def check_name(name: object) -> None:
    """Refuse what cannot be the name of a variable."""
    if not isinstance(name, str) or not name:
        raise StudyError(
            f"the name of a variable must be a text, got {name!r} ({type(name).__name__}); write for example "
            "trial.suggest_float('temperature', 0.0, 1.0)"
        )


def _named(name: object, alternatives: Any, named: Mapping[str, M]) -> dict[str, M]:
    known = {**alternatives, **named} if isinstance(alternatives, Mapping) else named if alternatives is None else None
    if known and isinstance(name, str):
        return dict(known)
    wrong = (
        f"name must be a string, got {name!r} ({type(name).__name__})"
        if not isinstance(name, str)
        else f"the alternatives of {name!r} need names, got {alternatives!r} ({type(alternatives).__name__})"
        if known is None
        else f"{name!r} has no alternatives"
    )
    name = name if isinstance(name, str) else "answer"
    raise StudyError(
        f"{wrong}; write trial.suggest_module({name!r}, direct=Predict(...), stepwise=ChainOfThought(...))"
    )


def _sequence(name: str, argument: str, value: Sequence[T]) -> Sequence[T]:
    # A string is a sequence too, and its letters are never what was meant.
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise StudyError(
            f"{argument} of {name!r} must be a list, got {value!r} ({type(value).__name__}); write [{value!r}]"
        )
    return tuple(value)
