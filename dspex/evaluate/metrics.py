"""Ready-made metrics, and the text comparisons they are made of.

A comparison takes what the program said and what would have been right (one answer or several accepted
ones). A metric takes ``(example, prediction)`` and applies a comparison to fields; ``answer_exact_match``
and its kin look at the field ``answer`` until told another: ``answer_exact_match(field="label")``.

>>> from dspex.data import Example, Prediction
>>> example, prediction = Example(answer="The Eiffel Tower"), Prediction(answer="eiffel tower!")
>>> answer_exact_match(example, prediction)
1.0
>>> answer_f1(example, Prediction(answer="a tower in Paris"))
0.4
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

import attrs

from dspex.data import Score
from dspex.errors import MetricError

__all__ = [
    "FieldMetric",
    "answer_contains",
    "answer_exact_match",
    "answer_f1",
    "contains",
    "exact_match",
    "f1",
    "field_accuracy",
    "normalize_text",
]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
# All punctuation but what makes another number of a number: a sign before it, and marks inside it ("3.5",
# "1/2", "10:30") other than the comma between thousands.
_PUNCTUATION = re.compile(rf",|(?!(?<!\w)-(?=\.?\d))(?!(?<=\d).(?=\d))[{re.escape(string.punctuation)}]")


def normalize_text(text: str) -> str:
    """Lower case without punctuation, articles and surplus space, as SQuAD's official scorer compares.

    Unlike there, a number stays the number it is ("3.5" is not "35"), and a text of nothing but punctuation
    and articles is kept ("+" is not "-").

    Source: Rajpurkar et al., "SQuAD: 100,000+ questions for machine comprehension of text", EMNLP 2016.

    >>> normalize_text("  The  Quick, brown fox! "), normalize_text("-1,250.5 dollars."), normalize_text("+")
    ('quick brown fox', '-1250.5 dollars', '+')
    """
    lower = text.lower()
    return " ".join(_ARTICLES.sub(" ", _PUNCTUATION.sub("", lower)).split()) or " ".join(lower.split())


def exact_match(said: Any, right: Any) -> float:
    """1.0 when ``said`` is a right answer: lists and objects by ``==``, all else as normalised text.

    A list, tuple or set as ``right`` means that any of its items will do, unless ``said`` is a list itself.

    >>> exact_match("Paris.", ["paris", "Paris, France"]), exact_match("4", 4), exact_match(["a"], ["a", "b"])
    (1.0, 1.0, 0.0)
    """
    if not isinstance(said, str):
        if said == right:
            return 1.0
        if said is None or not isinstance(said, int | float):
            return 0.0
    normal = normalize_text(_text(said))
    return float(any(normal == normalize_text(answer) for answer in _accepted(right)))


def f1(said: Any, right: Any) -> float:
    """The harmonic mean of precision and recall over the words of two texts; the best right answer counts.

    >>> f1("the red fox", "a quick red fox")
    0.8
    """
    words = Counter(normalize_text(_text(said)).split())
    return max((_overlap(words, Counter(normalize_text(answer).split())) for answer in _accepted(right)), default=0.0)


def contains(said: Any, right: Any) -> float:
    """1.0 when a right answer occurs in ``said`` as whole words, both after `normalize_text`.

    >>> contains("It stands in Paris, France.", "Paris"), contains("comparison", "Paris")
    (1.0, 0.0)
    """
    text = f" {normalize_text(_text(said))} "
    return float(any(f" {normalize_text(answer)} " in text for answer in _accepted(right)))


@attrs.frozen
class FieldMetric:
    """A metric that compares one field of the prediction with the same field of the example.

    Called with ``field=`` alone it gives the same comparison on another field.

    Raises `MetricError` when the example or the prediction has no such field.

    >>> from dspex.data import Example, Prediction
    >>> metric = answer_exact_match(field="label")
    >>> metric
    FieldMetric(compare=exact_match, field='label')
    >>> metric(Example(label="spam"), Prediction(label="Spam"))
    1.0
    """

    compare: Callable[[Any, Any], float] = attrs.field(repr=lambda compare: compare.__name__)
    field: str = "answer"

    @overload
    def __call__(self, *, field: str) -> FieldMetric: ...
    @overload
    def __call__(self, example: Mapping[str, Any], prediction: Mapping[str, Any], trace: Any = None) -> float: ...
    def __call__(
        self,
        example: Mapping[str, Any] | None = None,
        prediction: Mapping[str, Any] | None = None,
        trace: Any = None,
        *,
        field: str | None = None,
    ) -> float | FieldMetric:
        if example is None or prediction is None:
            return FieldMetric(self.compare, field if field is not None else self.field)
        right = _field(example, self.field, "example", self)
        return self.compare(_field(prediction, self.field, "prediction", self), right)


answer_exact_match = FieldMetric(exact_match)
answer_f1 = FieldMetric(f1)
answer_contains = FieldMetric(contains)


@attrs.frozen
class _FieldAccuracy:
    fields: tuple[str, ...]
    compare: Callable[[Any, Any], float] = attrs.field(repr=lambda compare: compare.__name__)

    def __call__(self, example: Mapping[str, Any], prediction: Mapping[str, Any]) -> Score:
        names = self.fields or _label_names(example)
        wrong: list[str] = []
        total = 0.0
        for name in names:
            right, said = _field(example, name, "example", self), prediction.get(name)
            value = self.compare(said, right)
            total += value
            if value < 1:
                wrong.append(f"{name} should be {right!r}, not {said!r}")
        every = float(not wrong)
        return Score(total / len(names), "; ".join(wrong), objectives={"all_fields": every})


def field_accuracy(*fields: str, compare: Callable[[Any, Any], float] = exact_match) -> _FieldAccuracy:
    """A metric: the share of the named fields (all labels when none is named) that the prediction has right.

    The score's feedback names what is wrong, and ``all_fields`` is a second objective: 1.0 when nothing is.
    A field that the prediction lacks is wrong.

    >>> from dspex.data import Example, Prediction
    >>> example = Example(text="12 Elm St, Troy", street="Elm St", city="Troy").with_inputs("text")
    >>> field_accuracy()(example, Prediction(street="Elm St", city="Rome"))
    Score(0.5, "city should be 'Troy', not 'Rome'", objectives={'all_fields': 0.0})
    """
    return _FieldAccuracy(fields, compare)


def _label_names(example: Mapping[str, Any]) -> list[str]:
    inputs = getattr(example, "input_keys", None)
    names = [name for name in example if name not in inputs] if inputs is not None else []
    if not names:
        raise MetricError(
            f"field_accuracy() compares all labels, but {_shortened(example)} has none: say which fields "
            f"are inputs with example.with_inputs(...), or name the fields to compare, as in "
            f'field_accuracy("street", "city").'
        )
    return names


def _field(row: Mapping[str, Any], name: str, what: str, metric: object) -> Any:
    try:
        return row[name]
    except KeyError:
        raise MetricError(
            f"{metric} needs the field {name!r}, but the {what} has only "
            f"{', '.join(map(repr, row)) or 'no fields'}; "
            f'choose the field to compare, as in answer_exact_match(field="label").'
        ) from None


def _accepted(right: Any) -> Iterable[str]:
    if isinstance(right, list | tuple | set | frozenset):
        return map(_text, right)
    return (_text(right),)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _overlap(said: Counter[str], right: Counter[str]) -> float:
    if not said or not right:
        return float(said == right)
    common = (said & right).total()
    # 2PR / (P + R), where the lengths are the denominators of P and R.
    return 2 * common / (said.total() + right.total())


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 160 else text[:157] + "..."
