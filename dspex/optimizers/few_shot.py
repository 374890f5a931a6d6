"""The few-shot family: demos only, everything else as the program has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dspex.errors import DefinitionError
from dspex.optimizers.base import Optimizer
from dspex.optimizers.options import check_proposers
from dspex.optimizers.task import Task
from dspex.proposers import BootstrappedDemos, LabeledDemos, Proposer
from dspex.proposers.checks import check_whole
from dspex.variables import Demos, VariableState

__all__ = ["BootstrapFewShot", "FewShot", "LabeledFewShot"]


class FewShot(Optimizer):
    """Draws sets of demos and keeps the best of ``candidates`` random combinations, scored on the whole valset.

    Args:
        proposers: what fills the demo pools; None is labelled and bootstrapped demos.
        candidates: combinations to try, one set for every predictor each.
        options: those of `Optimizer`.

    Example:
        >>> import dspex
        >>> demos = dspex.proposers.LabeledDemos(sizes=(2, 4), sets=3)
        >>> search = FewShot([demos], candidates=4)
        >>> search.candidates, search.proposers == (demos,)
        (4, True)
    """

    def __init__(self, proposers: Sequence[Proposer] | None = None, *, candidates: int = 8, **options: Any) -> None:
        super().__init__(**options)
        check_whole("candidates", candidates, 1)
        check_proposers(proposers)
        self.proposers: tuple[Proposer, ...] = (
            (LabeledDemos(), BootstrappedDemos()) if proposers is None else tuple(proposers)
        )
        self.candidates = candidates

    def to_json(self) -> dict[str, Any]:
        """The settings that decide the results."""
        return {
            **super().to_json(),
            "candidates": self.candidates,
            "proposers": [proposer.to_json() for proposer in self.proposers],
        }

    def search(self, task: Task) -> VariableState | None:
        """Fill the pools, then score combinations."""
        paths = [path for path in task.space.tunable if isinstance(task.space[path].domain, Demos)]
        if not paths:
            raise DefinitionError(
                f"{type(task.program).__name__} has no demos to search: open some, program.unfreeze('*.demos')"
            )
        task.evaluate()
        for proposer in self.proposers:
            task.watcher.phase(f"proposing: {type(proposer).__name__}")
            proposer.propose(task)
        task.watcher.phase(f"scoring {self.candidates} sets of demos")
        for number in range(self.candidates):
            rng = task.random("combination", number)
            chosen = {path: rng.choice(task.pool(path).values[1:] or ((),)) for path in paths}
            task.evaluate({**task.state.to_dict(), **chosen})
        return None if task.best is None else task.best.state


class LabeledFewShot(FewShot):
    """Demos straight from the labelled examples.

    Args:
        max_demos: demos in a set, at most.
        sets: sets to draw.
        options: those of `FewShot`.

    Source: Khattab et al. 2023, "DSPy", section 4.1.

    Example:
        >>> import dspex
        >>> capitals = {f"Land {number}": f"Town {number}" for number in range(10, 50)}
        >>> trainset = [dspex.Example(country=c, capital=t).with_inputs("country") for c, t in capitals.items()]
        >>> def model(messages):  # one that needs to be shown how
        ...     country = next(c for c in capitals if c in messages[-1]["content"])
        ...     return {"capital": capitals[country] if len(messages) > 2 else "?"}
        >>> program = dspex.Predict("country -> capital", lm=dspex.MockLM(model))
        >>> result = LabeledFewShot(max_demos=4, candidates=2).optimize(
        ...     program, trainset, lambda example, prediction: prediction.capital == example.capital, storage=None
        ... )
        >>> result.baseline.score, result.best.score, 1 <= len(result.program.demos) <= 4
        (0.0, 1.0, True)
    """

    def __init__(self, *, max_demos: int = 8, sets: int = 8, **options: Any) -> None:
        super().__init__([LabeledDemos(sizes=_sizes(max_demos), sets=sets)], **options)


class BootstrapFewShot(FewShot):
    """Demos from the program's own good runs, with labelled ones beside them.

    Args:
        max_demos: demos in a set, at most.
        threshold: the lowest score of a run that may teach.
        examples: training examples to run.
        sets: sets to draw of each kind.
        options: those of `FewShot`.

    Source: Khattab et al. 2023, "DSPy", section 4.2.

    Example:
        >>> import dspex
        >>> capitals = {f"Land {number}": f"Town {number}" for number in range(10, 50)}
        >>> trainset = [dspex.Example(country=c, capital=t).with_inputs("country") for c, t in capitals.items()]
        >>> def model(messages):  # one that knows half, and the rest when it is shown how
        ...     country = next(c for c in capitals if c in messages[-1]["content"])
        ...     return {"capital": capitals[country] if len(messages) > 2 or int(country[-1]) % 2 else "?"}
        >>> program = dspex.Predict("country -> capital", lm=dspex.MockLM(model))
        >>> result = BootstrapFewShot(max_demos=4, candidates=2).optimize(
        ...     program, trainset, lambda example, prediction: prediction.capital == example.capital, storage=None
        ... )
        >>> result.best.score, result.significant
        (1.0, True)
    """

    def __init__(
        self, *, max_demos: int = 8, threshold: float = 1.0, examples: int = 24, sets: int = 4, **options: Any
    ) -> None:
        super().__init__(
            [
                LabeledDemos(sizes=_sizes(max_demos), sets=sets),
                BootstrappedDemos(threshold=threshold, examples=examples, sizes=_sizes(max_demos), sets=sets),
            ],
            **options,
        )


def _sizes(largest: int) -> tuple[int, ...]:
    check_whole("max_demos", largest, 1)
    return tuple(sorted({max(1, largest // 2), largest}))
