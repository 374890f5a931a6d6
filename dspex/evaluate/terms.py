"""On what terms each example is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from dspex.errors import DefinitionError
from dspex.execution import Budget, Deadline, Run, Settings, current
from dspex.variables.numeric import is_finite

__all__ = ["Terms"]


@attrs.frozen(kw_only=True)
class Terms:
    """How each example is run.

    ``deadline``
        seconds for the whole example, retries included; ``None`` for no limit.
    ``retries``
        further tries after an infrastructure error that may pass.
    ``budget``
        the `Budget` that all calls count against, the metric's own included; the settings' when ``None``.
    ``failure_score``
        the score of a program that raised: one number, or one for each objective.
    ``seed``
        given to models that take one, plus the rollout's number.
    ``settings``
        the defaults (model, adapter, ...) of the runs; those that hold where the terms are made.

    Raises `DefinitionError` naming the argument.

    >>> Terms(retries=-1)
    Traceback (most recent call last):
        ...
    dspex.errors.DefinitionError: retries must be a whole number from 0 on, got -1 (int); write retries=2
    """

    deadline: float | None = attrs.field(default=None)
    retries: int = attrs.field(default=2)
    budget: Budget | None = attrs.field(default=None)
    failure_score: float | Mapping[str, float] = attrs.field(default=0.0)
    seed: int | None = attrs.field(default=None)
    settings: Settings = attrs.field(factory=current)

    @deadline.validator
    def _check_deadline(self, _: Any, value: Any) -> None:
        if value is not None:
            Deadline(value)

    @retries.validator
    def _check_retries(self, _: Any, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise DefinitionError(
                f"retries must be a whole number from 0 on, got {value!r} ({type(value).__name__}); write retries=2"
            )

    @budget.validator
    def _check_budget(self, _: Any, value: Any) -> None:
        if value is not None and not isinstance(value, Budget):
            raise DefinitionError(
                f"budget must be a Budget, got {value!r} ({type(value).__name__}); "
                f"write for example budget=dspex.Budget(usd=2.0)"
            )

    @failure_score.validator
    def _check_failure_score(self, _: Any, value: Any) -> None:
        numbers = list(value.values()) if isinstance(value, Mapping) else [value]
        if not numbers or not all(map(is_finite, numbers)):
            raise DefinitionError(
                f"failure_score must be a finite number, or a dict with one for each objective, got "
                f"{value!r} ({type(value).__name__}); write failure_score=0.0 or "
                f'failure_score={{"score": 0.0}}'
            )

    @seed.validator
    def _check_seed(self, _: Any, value: Any) -> None:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise DefinitionError(
                f"seed must be a whole number or None, got {value!r} ({type(value).__name__}); write seed=0"
            )

    def new_run(self, rollout: int = 0) -> Run:
        """A run of one try, as yet without a deadline."""
        seed = self.seed
        return Run(
            settings=self.settings,
            budget=self.budget,
            rollout_id=rollout,
            seed=None if seed is None else seed + rollout,
        )

    def failure_scores(self) -> dict[str, float]:
        """The scores of a program that raised.

        >>> Terms(failure_score={"recall": 0.0, "errors": 9.0}).failure_scores()
        {'score': 0.0, 'recall': 0.0, 'errors': 9.0}
        """
        value = self.failure_score
        if not isinstance(value, Mapping):
            return {"score": float(value)}
        scores = {name: float(number) for name, number in value.items()}
        return {"score": scores.get("score", next(iter(scores.values()))), **scores}
