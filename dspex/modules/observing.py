"""A module's call with somebody listening: the same call, within a span."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dspex.callbacks.observed import Observed
from dspex.data import Prediction

if TYPE_CHECKING:
    from dspex.callbacks import Span
    from dspex.execution import Run
    from dspex.modules.module import Module

__all__ = ["aobserved", "measured", "observed"]


def observed(
    module: Module, run: Run, args: tuple[Any, ...], inputs: Mapping[str, Any], began: float | None = None
) -> Any:
    """Call ``module``; ``began`` is when, if this is the call of a whole program."""
    with _span(module, run, args, inputs, outermost=began is not None) as span:
        result = module._invoke(run, args, inputs)
        span.outputs = result = result if began is None else measured(result, run, began)
        return result


async def aobserved(
    module: Module, run: Run, args: tuple[Any, ...], inputs: Mapping[str, Any], began: float | None = None
) -> Any:
    """The async side of `observed`."""
    with _span(module, run, args, inputs, outermost=began is not None) as span:
        result = await module._ainvoke(run, args, inputs, outermost=began is not None)
        span.outputs = result = result if began is None else measured(result, run, began)
        return result


def measured(result: Any, run: Run, began: float) -> Any:
    """A program's prediction says what the whole run used and how long it took."""
    if isinstance(result, Prediction):
        result.usage = run.usage
        result.latency = time.perf_counter() - began
    return result


@contextmanager
def _span(
    module: Module, run: Run, args: tuple[Any, ...], inputs: Mapping[str, Any], *, outermost: bool
) -> Iterator[Span]:
    given = {**_named(module, args), **inputs} if args else dict(inputs)
    with Observed(
        run.observers,
        "module",
        type(module).__name__,
        path=module._path,
        inputs=given,
        attributes={"rollout": run.rollout_id},
        root=run.span,
    ) as span:
        around = run.span
        # Not the module that joins a run of others: the first one is there for its threads too.
        if outermost and (around is None or around.kind != "module"):
            run.span = span
        try:
            yield span
        finally:
            if run.span is span:
                run.span = around


def _named(module: Module, args: tuple[Any, ...]) -> dict[str, Any]:
    """Positional inputs by the names that they have in the module's own method."""
    method: Any = getattr(module, "flow" if module._kind == "flow" else "forward")
    names = [
        name
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    names += [f"args[{index}]" for index in range(len(args) - len(names))]
    return dict(zip(names, args, strict=False))
