"""One trial as it stands: an immutable snapshot of what was tried and what came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from dspex.errors import StudyError
from dspex.trials.state import TrialState
from dspex.variables import Domain
from dspex.variables.notebook import table
from dspex.variables.readonly import ReadOnlyDict, read_only

__all__ = ["FrozenTrial", "create_trial"]


_NOTHING: Mapping[Any, Any] = ReadOnlyDict()


def _as_read_only(given: Mapping[Any, Any]) -> Mapping[Any, Any]:
    return given if type(given) is ReadOnlyDict else ReadOnlyDict(given)


def _attributes(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """As `_as_read_only`, and what the values hold too."""
    return given if type(given) is ReadOnlyDict else read_only(dict(given))


def _mapping() -> Any:
    return attrs.field(default=_NOTHING, converter=_as_read_only)


def _attribute_mapping() -> Any:
    return attrs.field(default=_NOTHING, converter=_attributes)


@attrs.frozen(kw_only=True, slots=True)
class FrozenTrial:
    """A snapshot of one trial. Nothing in it can be changed: a change makes another snapshot.

    ``params`` maps a variable's path to its value; for an open-ended variable (a prompt, demos) that is the
    id of an item of its pool, and `Study.values(trial)` gives the item itself. ``distributions`` maps the
    same paths to their domains. ``constraints`` maps names to values of which anything above zero is a
    violation. ``intermediate_values`` maps steps to what was reported there: a number, or a tuple with one for each of
    several objectives. ``owner`` names the process that runs the trial. Times are in UTC.

    >>> from dspex.variables import Float
    >>> trial = create_trial(value=0.5, params={"x": 2.0}, distributions={"x": Float(0.0, 4.0)})
    >>> trial.value, trial.params["x"], trial.state.name, trial.feasible
    (0.5, 2.0, 'COMPLETE', True)
    """

    number: int
    state: TrialState
    params: Mapping[str, Any] = _mapping()
    distributions: Mapping[str, Domain[Any]] = _mapping()
    values: tuple[float, ...] | None = None
    intermediate_values: Mapping[int, Any] = _mapping()
    constraints: Mapping[str, float] = _mapping()
    user_attrs: Mapping[str, Any] = _attribute_mapping()
    system_attrs: Mapping[str, Any] = _attribute_mapping()
    datetime_start: datetime | None = None
    datetime_complete: datetime | None = None
    fingerprint: str = ""
    owner: str = ""

    @property
    def value(self) -> float | None:
        """The value of the only objective, or ``None`` without one.

        Raises:
            StudyError: when the trial has several objectives.
        """
        if self.values is None:
            return None
        if len(self.values) > 1:
            raise StudyError(
                f"trial {self.number} has {len(self.values)} objectives, so it has no single value; write trial.values"
            )
        return self.values[0]

    def of_objective(self, index: int) -> FrozenTrial:
        """The trial as a study of its objective number ``index`` alone would have it.

        >>> trial = create_trial(values=[0.5, 3.0], intermediate_values={1: (0.4, 2.0)}).of_objective(1)
        >>> trial.value, trial.intermediate_values
        (3.0, {1: 2.0})
        """
        return attrs.evolve(
            self,
            values=None if self.values is None else (self.values[index],),
            intermediate_values={step: values[index] for step, values in self.intermediate_values.items()},
        )

    @property
    def last_step(self) -> int | None:
        """The largest step that was reported, or ``None``."""
        return max(self.intermediate_values) if self.intermediate_values else None

    @property
    def feasible(self) -> bool:
        """Whether no constraint is violated."""
        return all(value <= 0.0 for value in self.constraints.values())

    @property
    def crashed(self) -> bool:
        """Whether the trial failed, and the world (network, provider, clock) was not to blame: then its values may be,
        and what is like it may fail too.

        >>> from dspex.trials import TrialState
        >>> create_trial(state=TrialState.FAIL).crashed
        True
        >>> create_trial(state=TrialState.FAIL, system_attrs={"infrastructure": True}).crashed
        False
        """
        return self.state is TrialState.FAIL and not self.system_attrs.get("infrastructure", False)

    @property
    def failed_externally(self) -> bool:
        """Whether the trial failed, and the world was to blame: that teaches nothing about its values, which may be
        tried again. Each failed trial is this or `crashed`.

        >>> from dspex.trials import TrialState
        >>> create_trial(state=TrialState.FAIL, system_attrs={"infrastructure": True}).failed_externally
        True
        """
        return self.state is TrialState.FAIL and not self.crashed

    @property
    def duration(self) -> timedelta | None:
        """How long the trial took, or ``None`` while it has not finished."""
        if self.datetime_start is None or self.datetime_complete is None:
            return None
        return self.datetime_complete - self.datetime_start

    @property
    def fixed_params(self) -> Mapping[str, Any]:
        """What a queued trial wants to be run with, as it was enqueued."""
        fixed: Mapping[str, Any] = self.system_attrs.get("fixed_params", _NOTHING)
        return fixed

    def _repr_html_(self) -> str:
        told = "" if self.values is None else f", {', '.join(f'{value:.6g}' for value in self.values)}"
        infeasible = "" if self.feasible else ", infeasible"
        rows = [(path, value, repr(self.distributions.get(path))) for path, value in self.params.items()]
        rows += [(f"constraint {name}", value, "violated above 0") for name, value in self.constraints.items()]
        rows += [(f"user_attrs[{key!r}]", value, "") for key, value in self.user_attrs.items()]
        took = "" if self.duration is None else f"took {self.duration.total_seconds():.3g} s"
        title = f"Trial {self.number}: {self.state.name}{told}{infeasible}"
        return table(title, ("variable", "value", "domain"), rows, note=took)


def create_trial(
    *,
    state: TrialState = TrialState.COMPLETE,
    value: float | None = None,
    values: Sequence[float] | None = None,
    params: Mapping[str, Any] | None = None,
    distributions: Mapping[str, Domain[Any]] | None = None,
    intermediate_values: Mapping[int, float | Sequence[float]] | None = None,
    constraints: Mapping[str, float] | None = None,
    user_attrs: Mapping[str, Any] | None = None,
    system_attrs: Mapping[str, Any] | None = None,
) -> FrozenTrial:
    """A trial that was run elsewhere, for `Study.add_trial`.

    Raises:
        StudyError: when a parameter has no domain, or a value and the state contradict each other.
        StateError: when a parameter does not lie in its domain.

    >>> from dspex.variables import Int
    >>> create_trial(value=1.0, params={"k": 3}, distributions={"k": Int(1, 5)}).params["k"]
    3
    >>> create_trial(value=1.0, params={"k": 3})
    Traceback (most recent call last):
        ...
    dspex.errors.StudyError: params and distributions must name the same variables: 'k' is only in params. \
Write create_trial(params={'k': ...}, distributions={'k': Float(0, 1)}, value=...)
    """
    if value is not None and values is not None:
        raise StudyError(f"give value= or values=, not both (got value={value!r} and values={values!r})")
    told = (value,) if value is not None else None if values is None else tuple(values)
    domains = dict(distributions or {})
    given = dict(params or {})
    for path in {*given, *domains}:
        if path not in given or path not in domains:
            where = "params" if path in given else "distributions"
            raise StudyError(
                f"params and distributions must name the same variables: {path!r} is only in {where}. "
                f"Write create_trial(params={{{path!r}: ...}}, distributions={{{path!r}: Float(0, 1)}}, "
                "value=...)"
            )
    checked = {
        path: item if domains[path].open_ended else domains[path].validate(item, name=path)
        for path, item in given.items()
    }
    trial = FrozenTrial(
        number=-1,
        state=state,
        params=checked,
        distributions=domains,
        values=None if told is None else tuple(float(item) for item in told),
        intermediate_values={int(step): _reported(value) for step, value in (intermediate_values or {}).items()},
        constraints=dict(constraints or {}),
        user_attrs=dict(user_attrs or {}),
        system_attrs=dict(system_attrs or {}),
        datetime_start=None if state is TrialState.WAITING else datetime.now(UTC),
        datetime_complete=datetime.now(UTC) if state.is_finished else None,
    )
    return checked_trial(trial)


def _reported(value: float | Sequence[float]) -> float | tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, Sequence) else float(value)


def checked_trial(trial: FrozenTrial) -> FrozenTrial:
    """``trial`` itself, when its state and its values agree.

    Raises:
        StudyError: when they do not.
    """
    if trial.state is TrialState.COMPLETE:
        if trial.values is None:
            raise StudyError("a COMPLETE trial needs value=... (or values=[...] for several objectives)")
        if any(math.isnan(value) for value in trial.values):
            raise StudyError(
                f"a COMPLETE trial cannot have the values {trial.values!r}: NaN ranks nothing. Use "
                "state=TrialState.FAIL"
            )
    elif trial.state is not TrialState.PRUNED and trial.values is not None:
        raise StudyError(f"a {trial.state.name} trial has no values, got {trial.values!r}")
    return trial
