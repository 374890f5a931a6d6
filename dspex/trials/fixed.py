"""A trial whose values are given: to run an objective once more, or for the first time, without a study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from dspex.data import Evaluation
from dspex.errors import StudyError
from dspex.trials.checks import as_float, as_plain, as_report, as_step
from dspex.trials.suggest import Suggestions, check_name
from dspex.variables import Domain, Space, VariableState

__all__ = ["FixedTrial"]

T = TypeVar("T")


class FixedTrial(Suggestions):
    """Suggests the values that it was given, so that an objective can be run with them: ``objective(FixedTrial(...))``.

    What the objective reports and records is kept on the trial (``intermediate_values``, ``evaluations``,
    ``user_attrs``, ``constraints``), and `should_prune` says no. Prompts and demos are given themselves. For an
    objective over a declared space, give the ``space`` too, and it finds all values in ``values`` and ``state``.

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

    def __init__(self, params: Mapping[str, Any], number: int = 0, *, space: Space | None = None) -> None:
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
        self._state = None if space is None else space.state(self._given)
        self._suggested: dict[str, Any] = {}

    @property
    def params(self) -> dict[str, Any]:
        """The values that were asked for so far."""
        return dict(self._suggested)

    @property
    def values(self) -> dict[str, Any]:
        """All values that were given."""
        return dict(self._given)

    @property
    def state(self) -> VariableState:
        """The values as a state of the declared space, to bind a program to.

        Raises:
            StudyError: when no space was given.
        """
        if self._state is None:
            raise StudyError(
                "the FixedTrial has no declared space, so it has no state; read trial.values, or write "
                "FixedTrial({...}, space=program.space())"
            )
        return self._state

    def suggest(self, name: str, domain: Domain[T]) -> T:
        check_name(name)
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
        """Keeps an intermediate value, or one for each objective; of the same ``step`` the last report counts.

        Raises:
            StudyError: when it is no number, or ``step`` no whole number >= 0.
        """
        at = as_step(step)
        several = isinstance(value, Sequence) and not isinstance(value, str)
        self.intermediate_values[at] = as_report(value, len(value) if several else 1)  # type: ignore[arg-type]

    def should_prune(self) -> bool:
        """No: nobody else is there to be compared with."""
        return False

    def record(self, evaluation: Evaluation) -> Evaluation:
        """Keeps one row."""
        self.evaluations.append(evaluation)
        return evaluation

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keeps something of one's own; the value has to be plain data."""
        self.user_attrs[key] = as_plain(value)

    def set_constraint(self, key: str, value: float) -> None:
        """Keeps a constraint's value; above zero it is violated."""
        self.constraints[key] = as_float(value, f"the constraint {key!r}")

    def __repr__(self) -> str:
        return f"FixedTrial({self._given!r}, number={self.number})"
