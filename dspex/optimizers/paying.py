"""Paying for examples of several configurations at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any

import attrs

from dspex.callbacks.observed import Observed
from dspex.callbacks.span import Span
from dspex.data import Evaluation, Example, Usage
from dspex.evaluate import Progress, Scorer, Terms
from dspex.evaluate.batch import Batch
from dspex.evaluate.collector import Collector
from dspex.execution import current
from dspex.modules import Module
from dspex.variables import VariableState

__all__ = ["Order", "Portion", "run_portion"]


@attrs.define(eq=False)
class Order:
    """What is to be paid for of one configuration; a context manager, for the span of its trial.

    Of its ``examples`` those that are ``new``, and those to be run ``again`` that have failed before; ``left`` is how
    many of both are not in the ledger yet. Its span may be open beside those of others; what ends all of them is no
    error of those that are done.
    """

    state: VariableState
    program: Module
    trial: int
    study: str
    examples: Sequence[Example]
    new: Sequence[Example]
    again: Sequence[Example]
    left: int = attrs.field(init=False)
    _observed: Observed = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.left = len(self.new) + len(self.again)

    def __enter__(self) -> Span:
        self._observed = Observed(
            current().callbacks,
            "trial",
            f"trial {self.trial}",
            inputs=self.state.to_dict(),
            attributes={"trial": self.trial, "study": self.study},
            detached=True,
        )
        return self._observed.__enter__()

    @property
    def span(self) -> Span:
        """The span of its trial, once it has been entered."""
        return self._observed.span

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._observed.close(error if self.left else None)


Portion = Sequence[tuple[Order, Example]]
"""Examples that are run together, each with whose it is."""


def run_portion(
    portion: Portion,
    scorer: Scorer,
    terms: Mapping[str, Any],
    *,
    concurrency: int,
    on_result: Callable[[Order, Evaluation], object],
    on_usage: Callable[[Usage], object],
) -> tuple[Usage, str]:
    """What the metric took, and why it ended early, or ``""``; ``on_result`` may be called on several threads at once.

    Raises what `Evaluate` raises.
    """
    examples: dict[Order, list[Example]] = {}
    for order, example in portion:
        examples.setdefault(order, []).append(example)
    common = Terms(settings=current(), **terms)
    collectors = {
        order: Collector(
            order.program,
            asked,
            scorer,
            common,
            rollouts=1,
            fingerprint=order.state.fingerprint,
            trial=order.trial,
            on_result=partial(on_result, order),
            on_usage=on_usage,
            progress=Progress(),
        )
        for order, asked in examples.items()
    }
    batch = Batch(list(collectors.values()), concurrency=concurrency)
    judged = Usage()
    with ExitStack() as stack:
        batch.prepare()
        spans = {order: stack.enter_context(one.observed(order.span)) for order, one in collectors.items()}
        batch.run()
        for order, one in collectors.items():
            spans[order].outputs = result = one.result()
            judged.add(result.metric_usage)
    return judged, result.stopped
