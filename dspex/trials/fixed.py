"""A trial whose values are given: to run an objective once more, or for the first time, without a study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from dspex.data import Evaluation
from dspex.errors import StudyError
from dspex.trials.suggest import Suggestions
from dspex.variables import Domain

__all__ = ["FixedTrial"]

T = TypeVar("T")


class FixedTrial(Suggestions):
    """Suggests the values that it was given, so that an objective can be run with them: ``objective(FixedTrial(...))``.

    What the objective reports and records is kept on the trial (``intermediate_values``, ``evaluations``,
    ``user_attrs``, ``constraints``), and `should_prune` says no. Prompts and demos are given themselves.

    Raises `StudyError` when the objective asks for a value that was not given, and `StateError` when one does not lie
    in the domain that it asks for.

    >>> trial = FixedTrial({"x": 2.0})
    >>> (trial.suggest_float("x", 0.0, 5.0) - 3.0) ** 2
    1.0
    >>> trial.suggest_int("depth", 1, 3)
    Traceback (most recent call last):
        ...
    dspex.errors.StudyError: the FixedTrial has no value for 'depth', only for 'x'; give it one that lies in ...
    """

    def __init__(self, params: Mapping[str, Any], number: int = 0) -> None:
        if not isinstance(params, Mapping):
            raise StudyError(
                f"params must be a dict of names and values, got {params!r} ({type(params).__name__}); "
                "write FixedTrial({'x': 0.5}), or FixedTrial(study.best_params)"
            )
        self.number = number
        self.distributions: dict[str, Domain[Any]] = {}
        self.user_attrs: dict[str, Any] = {}
        self.constraints: dict[str, float] = {}
        self.intermediate_values: dict[int, Any] = {}
        self.evaluations: list[Evaluation] = []
        self.datetime_start = datetime.now(UTC)
        self._given = dict(params)
        self._suggested: dict[str, Any] = {}

    @property
    def params(self) -> dict[str, Any]:
        """The values that were asked for so far."""
        return dict(self._suggested)

    values = params

    def suggest(self, name: str, domain: Domain[T]) -> T:
        known = self.distributions.get(name)
        if known is not None and known != domain:
            raise StudyError(
                f"{name!r} is {known!r} in this trial already and {domain!r} now; a name has one domain in a trial. "
                f"Give the second variable another name, for example {name + '_2'!r}"
            )
        if name not in self._given:
            raise StudyError(
                f"the FixedTrial has no value for {name!r}, only for {', '.join(map(repr, self._given)) or 'nothing'}; "
                f"give it one that lies in {domain!r}: FixedTrial({{..., {name!r}: ...}})"
            )
        value = domain.validate(self._given[name], name=name)
        self.distributions[name] = domain
        self._suggested[name] = value
        return value

    def _extend_pool(self, name: str, domain: Domain[Any], candidates: Iterable[Any]) -> None:
        """What is given need not be among the candidates."""

    def report(self, value: float | Sequence[float], step: int) -> None:
        """Keeps an intermediate value; of the same ``step`` the last one counts."""
        self.intermediate_values[step] = tuple(value) if isinstance(value, Sequence) else value

    def should_prune(self) -> bool:
        """No: nobody else is there to be compared with."""
        return False

    def record(self, evaluation: Evaluation) -> Evaluation:
        """Keeps one row."""
        self.evaluations.append(evaluation)
        return evaluation

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keeps something of one's own."""
        self.user_attrs[key] = value

    def set_constraint(self, key: str, value: float) -> None:
        """Keeps a constraint's value; above zero it is violated."""
        self.constraints[key] = value

    def __repr__(self) -> str:
        return f"FixedTrial({self._given!r}, number={self.number})"
