"""`optimize`: one line, sensible defaults."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from typing import Any

from dspex.data import Example
from dspex.errors import DefinitionError
from dspex.execution import Budget
from dspex.modules import Module
from dspex.optimizers.base import Optimizer
from dspex.optimizers.joint import JointSearch
from dspex.optimizers.options import option_names
from dspex.optimizers.result import OptimizationResult

__all__ = ["optimize"]


def optimize(
    program: Module,
    trainset: Sequence[Example],
    metric: Any,
    valset: Sequence[Example] | None = None,
    *,
    optimizer: Optimizer | None = None,
    budget: Budget | None = None,
    **arguments: Any,
) -> OptimizationResult:
    """Search all open variables of ``program`` together and return the better program with its evidence.

    Takes what `Optimizer.optimize` takes. Without an ``optimizer`` it is a `JointSearch`, in proportion to the
    space: four configurations for each open variable, at least 18 and at most 60.

    Example:
        >>> import dspex
        >>> capitals = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Norway": "Oslo"} | {
        ...     f"Land {n}": f"Town {n}" for n in range(20)
        ... }
        >>> trainset = [dspex.Example(country=c, capital=t).with_inputs("country") for c, t in capitals.items()]
        >>> def model(messages, **params):  # a model that only knows what to do when it is shown a demo
        ...     country = messages[-1]["content"].split("## ]]")[1].split("[[")[0].strip().splitlines()[0]
        ...     return {"capital": capitals[country] if len(messages) > 2 else "?"}
        >>> result = dspex.optimize(
        ...     dspex.Predict("country -> capital"),
        ...     trainset,
        ...     lambda example, prediction: example.capital == prediction.capital,
        ...     lm=dspex.MockLM(model),
        ...     storage=None,
        ... )
        >>> result.significant, len(result.program.demos) > 0
        (True, True)
    """
    if optimizer is None:
        size = len(program.space().tunable) if isinstance(program, Module) else 0
        optimizer = JointSearch(trials=max(18, min(60, 4 * size)))
    _check_optimizer(optimizer)
    taken = inspect.signature(optimizer.optimize).parameters
    for name, value in arguments.items():
        if name not in taken and not any(one.kind is one.VAR_KEYWORD for one in taken.values()):
            raise _unknown_argument(type(optimizer), name, value, [*taken])
    return optimizer.optimize(program, trainset, metric, valset, budget=budget, **arguments)


def _unknown_argument(optimizer: type[Optimizer], name: str, value: Any, taken: list[str]) -> DefinitionError:
    options = option_names(optimizer)
    close = difflib.get_close_matches(name, [*options, *taken], n=1)
    if close and close[0] in options:
        right = f"it is a setting of the search: optimizer={optimizer.__name__}({close[0]}={value!r})"
    elif close:
        right = f"did you mean {close[0]}=?"
    else:
        right = (
            f"it takes {', '.join(taken)}, and settings of the search go to its optimizer: "
            f"optimizer={optimizer.__name__}({options[0]}=...)"
        )
    return DefinitionError(f"optimize takes no {name}={value!r} ({type(value).__name__}); {right}")


def _check_optimizer(optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        right = optimizer.__name__ if isinstance(optimizer, type) else "dspex.JointSearch"
        raise DefinitionError(
            f"optimizer must be an Optimizer, got {optimizer!r} ({type(optimizer).__name__}); write optimizer={right}()"
        )
