"""Calling a metric: inspected once, its answer checked each time."""

from __future__ import annotations

import inspect
import math
import numbers
import os
import traceback
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from dspex.data import Example, Prediction, Score
from dspex.errors import MetricError
from dspex.execution import Run, TraceEntry
from dspex.execution.active import activate, deactivate

__all__ = ["MEASURED", "PLAIN_SCORES", "Metric", "Scorer"]

Metric = Callable[..., Any]
"""``metric(example, prediction)`` or ``metric(example, prediction, trace)``, sync or async."""

_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep

MEASURED = ("cost", "tokens", "calls", "latency")
"""The objectives that need no metric; a metric's own cannot have these names."""

PLAIN_SCORES = (float, int, bool)

_ADVICE = (
    "Return a float or bool, dspex.Score(value, feedback), or a dict of named objectives such as "
    '{"score": 0.5, "brevity": 0.9}'
)


class Scorer:
    """A metric ready to be called for many examples.

    A third parameter without a default is given the run's trace (a list of `TraceEntry`). One with a default,
    DSPy's ``trace=None``, is left alone unless ``with_trace`` is set, as it is when demos are bootstrapped. Of several
    objectives the one called ``score`` is what programs are ranked by, or the first that is in ``ranked_by``.

    Raises `MetricError` for something that cannot be called with ``(example, prediction[, trace])``.

    >>> scorer = Scorer(lambda example, prediction: len(prediction["answer"]) < 20)
    >>> scorer.name, scorer.is_async, scorer.takes_trace
    ('<lambda>', False, False)
    >>> scorer.read(True, Example(answer="Paris"))
    ({'score': 1.0}, '')
    """

    __slots__ = ("_ranked_by", "is_async", "metric", "name", "takes_trace")

    def __init__(self, metric: Metric, *, with_trace: bool = False, ranked_by: Iterable[str] = ()) -> None:
        self.metric = metric
        self._ranked_by = tuple(ranked_by)
        self.name = _name(metric)
        if not callable(metric):
            raise MetricError(
                f"metric must be a function of (example, prediction), got {metric!r} "
                f"({type(metric).__name__}); write for example\n"
                f"    def metric(example, prediction):\n"
                f"        return prediction.answer == example.answer"
            )
        self.takes_trace = _takes_trace(metric, self.name, with_trace)
        self.is_async = inspect.iscoroutinefunction(metric) or inspect.iscoroutinefunction(
            getattr(metric, "__call__", None)  # noqa: B004 - an object whose __call__ is async
        )

    @classmethod
    def of(cls, metric: Metric | Scorer) -> Scorer:
        """``metric`` itself when it is a scorer already, else a scorer of it."""
        return metric if isinstance(metric, Scorer) else cls(metric)

    def call(self, example: Example, prediction: Any, trace: list[TraceEntry], run: Run) -> Any:
        """What the metric returns: a score, or something to await that gives one.

        Models that it asks count in ``run``.
        """
        token = activate(run)
        try:
            return self.metric(example, prediction, trace) if self.takes_trace else self.metric(example, prediction)
        finally:
            deactivate(token)

    def read(self, value: Any, example: Example) -> tuple[dict[str, float], str]:
        """The named objectives, ``score`` first, and the feedback in what the metric returned.

        Raises `MetricError` when it is no score.
        """
        if type(value) in PLAIN_SCORES:
            return {"score": self._finite(value, value, example)}, ""
        if isinstance(value, Score):
            scores = {"score": float(value)}
            for name, number in value.objectives.items():
                if name != "score":
                    scores[self._objective(name, value, example)] = number
            return scores, value.feedback
        # Rows of data are mappings too, but what they hold are answers.
        if isinstance(value, Mapping) and not isinstance(value, Example | Prediction):
            return self._read_mapping(value, example)
        return {"score": self._number(value, value, example)}, ""

    def raised(self, error: Exception, example: Example) -> MetricError:
        """The error that says that the metric raised."""
        where = ""
        for frame in traceback.extract_tb(error.__traceback__):
            if not frame.filename.startswith(_PACKAGE):
                where = f" at {frame.filename}:{frame.lineno}"
        return MetricError(
            f"metric {self.name!r} raised {type(error).__name__}: {error}{where}\n"
            f"  for {_described(example)}\n"
            f"A metric judges every prediction, wrong and strange ones too.\n{_ADVICE}."
        )

    def _read_mapping(self, value: Mapping[Any, Any], example: Example) -> tuple[dict[str, float], str]:
        if not value:
            raise self._wrong(value, example)
        scores: dict[str, float] = {}
        feedback = []
        for name, item in value.items():
            number = self._number(item, value, example)
            scores[self._objective(name, value, example)] = number
            if isinstance(item, Score) and item.feedback:
                feedback.append(f"{name}: {item.feedback}" if len(value) > 1 else item.feedback)
        return {"score": self._lead(value, scores, example), **scores}, "\n".join(feedback)

    def _lead(self, value: Mapping[Any, Any], scores: dict[str, float], example: Example) -> float:
        if "score" in scores:
            return scores.pop("score")
        found = [name for name in self._ranked_by if name in scores] or list(scores)
        if len(found) > 1 and found[0] not in self._ranked_by:
            raise MetricError(
                f"metric {self.name!r} returned {_shortened(value)}, {len(found)} objectives of which none is called "
                f"'score'\n  for {_described(example)}\n"
                f'Say which of them programs are ranked by: {{"score": ..., {found[1]!r}: ...}}'
            )
        return scores[found[0]]

    def _objective(self, name: Any, value: Any, example: Example) -> str:
        if not isinstance(name, str) or not name:
            raise MetricError(
                f"metric {self.name!r} returned {_shortened(value)}, whose objective {name!r} "
                f"({type(name).__name__}) is no name\n  for {_described(example)}\n{_ADVICE}."
            )
        if name in MEASURED:
            raise MetricError(
                f"metric {self.name!r} returned an objective called {name!r}, which dspex measures itself "
                f"({', '.join(MEASURED)} are always there)\n  for {_described(example)}\n"
                f"Leave it out, or call yours something else, such as {'my_' + name!r}."
            )
        return name

    def _number(self, item: Any, value: Any, example: Example) -> float:
        if not isinstance(item, numbers.Real | Decimal):
            # The scalars of numpy and torch say what they are by `item()`.
            unwrap = getattr(item, "item", None)
            if callable(unwrap) and getattr(item, "ndim", None) == 0:
                item = unwrap()
        if isinstance(item, numbers.Real | Decimal):
            return self._finite(item, value, example)
        raise self._wrong(value, example)

    def _finite(self, item: Any, value: Any, example: Example) -> float:
        try:
            number = float(item)
        except (OverflowError, ValueError):  # an int beyond the floats, Decimal's signalling NaN
            number = math.nan
        if not math.isfinite(number):
            raise self._wrong(value, example)
        return number

    def _wrong(self, value: Any, example: Example) -> MetricError:
        forgotten = " (is there a path without a `return`?)" if value is None else ""
        return MetricError(
            f"metric {self.name!r} returned {_shortened(value)} ({type(value).__name__}), which is no score"
            f"{forgotten}\n  for {_described(example)}\n{_ADVICE}."
        )

    def __repr__(self) -> str:
        return f"Scorer({self.name})"


def _takes_trace(metric: Metric, name: str, with_trace: bool) -> bool:
    try:
        signature = inspect.signature(metric)
    except (TypeError, ValueError):
        return False  # written in C; the plain call is the one to try
    try:
        signature.bind(None, None)
    except TypeError:
        pass
    else:
        third = list(signature.parameters.values())[2:3]
        return (
            with_trace
            and bool(third)
            and third[0].name == "trace"
            and third[0].kind is not inspect.Parameter.KEYWORD_ONLY
        )
    try:
        signature.bind(None, None, None)
    except TypeError:
        raise MetricError(
            f"metric {name!r} takes {signature}, but a metric is called with (example, prediction) or "
            f"(example, prediction, trace); write def {_identifier(name)}(example, prediction): ..."
        ) from None
    return True


def _name(metric: Any) -> str:
    return str(getattr(metric, "__name__", None) or type(metric).__name__)


def _identifier(name: str) -> str:
    return name if name.isidentifier() else "metric"


def _described(example: Example) -> str:
    return f"example {example.id}: {_shortened(example)}"


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."
