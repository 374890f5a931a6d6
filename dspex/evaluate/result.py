"""What an evaluation found: the rows, and what they say together."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import attrs

from dspex.data import Evaluation, Example, Usage
from dspex.data.plain import plain_data
from dspex.errors import StateError, StorageError
from dspex.evaluate.statistics import Interval, PairedTest, paired_test, score_interval

if TYPE_CHECKING:
    from os import PathLike

    from rich.table import Table

__all__ = ["EvaluationResult"]

_SCHEMA = 1

_HALVES = "backslashreplace"  # half a surrogate pair, which a model's text may hold, has no UTF-8


@attrs.frozen(kw_only=True, eq=False, repr=False, slots=False)
class EvaluationResult:
    """The rows of one evaluation, in the order of the examples, and their summary.

    ``rows``
        one `Evaluation` for each example and rollout that was finished.
    ``examples``, ``predictions``
        what each row is about, at the same index; a prediction is ``None`` where there is none.
    ``planned``
        how many rows there would be had nothing stopped it.
    ``stopped``
        why it ended early (``"interrupted"``, ``"BudgetExceeded: ..."``), or ``""``.
    ``usage``, ``metric_usage``
        what the program's model calls took, and those of the metric.
    ``seconds``
        wall time.

    Scores are means over examples; an example with several rollouts counts once. Failed rows count nowhere.

    >>> rows = [Evaluation(example_id=name, status="ok", scores={"score": score})
    ...         for name, score in (("a", 1.0), ("b", 1.0), ("c", 0.0))]
    >>> result = EvaluationResult(rows=tuple(rows), planned=3)
    >>> print(result)
    score 0.667 [0.208, 0.939] on 3 examples, 0 calls, 0 tokens, $0, 0.0 s
    """

    rows: tuple[Evaluation, ...]
    planned: int
    examples: tuple[Example, ...] = ()
    predictions: tuple[Any, ...] = ()
    metric: str = "metric"
    stopped: str = ""
    seconds: float = 0.0
    usage: Usage = attrs.field(factory=Usage)
    metric_usage: Usage = attrs.field(factory=Usage)
    confidence: float = 0.95

    @property
    def score(self) -> float:
        """The mean of the main objective; ``nan`` when nothing was scored."""
        values = self.by_example("score")
        return fmean(values.values()) if values else math.nan

    @property
    def interval(self) -> Interval:
        """The confidence interval of `score`: Wilson's for 0/1 scores, Student's t otherwise."""
        return self.objective_interval("score")

    @property
    def failed(self) -> int:
        """How many rows the world failed; they have no scores."""
        return sum(not row.ok for row in self.rows)

    @property
    def errors(self) -> int:
        """How many scored rows are of a program that raised."""
        return sum(row.ok and bool(row.error) for row in self.rows)

    @property
    def complete(self) -> bool:
        """Whether every planned row is there and scored."""
        return len(self.rows) == self.planned and not self.failed

    @cached_property
    def objectives(self) -> dict[str, float]:
        """The mean of every objective: the metric's, and those measured (``cost``, ``tokens``, ...).

        ``consistency`` is there when examples had several rollouts: the chance that two of them gave the same
        output. One that is not known for some row, such as the cost of a model without a price, is left out.
        """
        scored = sum(row.ok for row in self.rows)
        means = {
            name: fmean(map(fmean, values.values()))
            for name, values in self._columns.items()
            if sum(map(len, values.values())) == scored
        }
        agreement = self._consistency()
        if agreement is not None:
            means["consistency"] = agreement
        return means

    @cached_property
    def _columns(self) -> dict[str, dict[str, list[float]]]:
        """Objective → example id → its values in the scored rows."""
        columns: dict[str, dict[str, list[float]]] = {}
        for row in self.rows:
            if row.ok:
                for name, value in (row.scores | row.measured).items():
                    columns.setdefault(name, {}).setdefault(row.example_id, []).append(value)
        return columns

    def by_example(self, objective: str = "score") -> dict[str, float]:
        """Example id → mean of the objective over its scored rows, in the order of the examples."""
        return {example: fmean(values) for example, values in self._columns.get(objective, {}).items()}

    def objective_interval(self, objective: str) -> Interval:
        """The confidence interval of an objective's mean over examples."""
        return score_interval(list(self.by_example(objective).values()), confidence=self.confidence)

    def compare(self, other: EvaluationResult, *, objective: str = "score", seed: int = 0) -> PairedTest:
        """Whether this beats ``other``, on the examples that both have scored.

        Raises `StateError` when there are none, and when ``other`` is no result.
        """
        if not isinstance(other, EvaluationResult):
            raise StateError(
                f"compare takes the result of another evaluation, got {other!r} ({type(other).__name__}); write "
                f"result.compare(Evaluate(devset, metric)(other_program))"
            )
        mine, theirs = self.by_example(objective), other.by_example(objective)
        shared = [example for example in mine if example in theirs]
        if not shared:
            raise StateError(
                f"the two results have no scored example in common for {objective!r} "
                f"({len(mine)} and {len(theirs)} examples); evaluate both on the same devset"
            )
        return paired_test(
            [mine[example] for example in shared],
            [theirs[example] for example in shared],
            confidence=self.confidence,
            seed=seed,
        )

    def to_json(self, path: str | PathLike[str] | None = None) -> dict[str, Any]:
        """Plain data, which is also written to ``path`` when one is given; `from_json` reads it."""
        low, high = self.interval
        data = {
            "schema": _SCHEMA,
            "kind": "evaluation",
            "metric": self.metric,
            "score": _finite(self.score),
            "interval": [_finite(low), _finite(high)],
            "confidence": self.confidence,
            "objectives": self.objectives,
            "planned": self.planned,
            "failed": self.failed,
            "errors": self.errors,
            "stopped": self.stopped,
            "seconds": self.seconds,
            "usage": self.usage.to_json(),
            "metric_usage": self.metric_usage.to_json(),
            "rows": [row.to_json() for row in self.rows],
            "examples": [
                {"fields": example.to_json(), "inputs": sorted(example.input_keys or ())} for example in self.examples
            ],
        }
        if path is not None:
            Path(path).write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", "utf-8", _HALVES)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str | PathLike[str]) -> EvaluationResult:
        """The result that `to_json` gave or wrote, without the predictions; their fields are in the rows.

        Raises `StateError` when it is something else, or of a later version, and `StorageError` for a file that
        cannot be read.
        """
        if not isinstance(data, Mapping):
            try:
                data = json.loads(Path(data).read_text("utf-8"))
            except OSError as error:
                raise StorageError(f"the saved evaluation {str(data)!r} cannot be read: {error}") from error
            except ValueError as error:
                raise StorageError(f"{str(data)!r} is no saved evaluation: it is not JSON ({error})") from error
        if not isinstance(data, Mapping) or data.get("kind") != "evaluation":
            raise StateError('this is no saved evaluation: its "kind" is not "evaluation"')
        if data.get("schema") != _SCHEMA:
            raise StateError(
                f"this evaluation has the schema {data.get('schema')!r}, and this dspex reads {_SCHEMA}; "
                f"read it with the version of dspex that wrote it"
            )
        return cls(
            rows=tuple(Evaluation.from_json(row) for row in data["rows"]),
            examples=tuple(Example(item["fields"]).with_inputs(*item["inputs"]) for item in data["examples"]),
            predictions=(None,) * len(data["rows"]),
            planned=data["planned"],
            metric=data["metric"],
            stopped=data["stopped"],
            seconds=data["seconds"],
            usage=Usage.from_json(data["usage"]),
            metric_usage=Usage.from_json(data["metric_usage"]),
            confidence=data["confidence"],
        )

    def to_csv(self, path: str | PathLike[str] | None = None) -> str:
        """One line a row, as CSV text, which is also written to ``path`` when one is given.

        The example's fields are in columns ``example.NAME``, the prediction's in ``output.NAME``.
        """
        records = [
            {
                "example_id": row.example_id,
                "rollout": row.rollout,
                "status": row.status,
                **row.scores,
                **row.measured,
                "error": row.error,
                "feedback": row.feedback,
                **{f"example.{name}": _cell(value) for name, value in fields.items()},
                **{f"output.{name}": _cell(value) for name, value in (row.output or {}).items()},
            }
            for row, fields in zip(self.rows, self._fields(), strict=True)
        ]
        # A row that failed has not all columns; those of the first row that has them come first.
        columns = dict.fromkeys(name for record in sorted(records, key=len, reverse=True) for name in record)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        if path is not None:
            Path(path).write_text(text.getvalue(), "utf-8", _HALVES)
        return text.getvalue()

    def to_table(self, *, limit: int = 20, width: int = 120) -> str:
        """The first ``limit`` rows as a table to print, ``width`` characters wide."""
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=width, color_system=None).print(self._table(limit))
        return text.getvalue().rstrip()

    def __rich__(self) -> Table:
        return self._table(20)

    def _table(self, limit: int) -> Table:
        from rich.table import Table
        from rich.text import Text

        names = list(dict.fromkeys(name for row in self.rows for name in row.scores)) or ["score"]
        table = Table(title=str(self), title_justify="left", caption_justify="left")
        table.add_column("#", justify="right")
        table.add_column("example", max_width=48, overflow="fold")
        table.add_column("output", max_width=48, overflow="fold")
        for name in names:
            table.add_column(name, justify="right")
        table.add_column("s", justify="right")
        for index, (row, fields) in enumerate(zip(self.rows[:limit], self._fields(), strict=False)):
            said = row.output if not row.error or row.output else {"error": row.error}
            table.add_row(
                str(index),
                Text(_inline(fields) or row.example_id),
                Text(_inline(said or {})),
                *(f"{row.scores[name]:.3g}" if name in row.scores else "failed" for name in names),
                "" if row.latency is None else f"{row.latency:.2f}",
            )
        if len(self.rows) > limit:
            table.caption = f"and {len(self.rows) - limit} more rows"
        return table

    def _fields(self) -> Iterable[dict[str, Any]]:
        if not self.examples:
            return [{} for _ in self.rows]
        return [
            {name: plain_data(value, name=name) for name, value in example.to_dict().items()}
            for example in self.examples
        ]

    def _consistency(self) -> float | None:
        outputs: defaultdict[str, list[str]] = defaultdict(list)
        for row in self.rows:
            if row.ok:
                outputs[row.example_id].append(json.dumps(row.output, sort_keys=True, ensure_ascii=False))
        agreements = [_agreement(texts) for texts in outputs.values() if len(texts) > 1]
        if not agreements or all(row.rollout == 0 for row in self.rows):
            return None
        return fmean(agreements)

    def __str__(self) -> str:
        if not self.rows:
            parts = ["nothing was evaluated"]
        elif self.failed == len(self.rows):
            parts = [f"nothing was scored: all {self.failed} examples failed ({_most(self.rows)})"]
        else:
            low, high = self.interval
            examples = len(self.by_example())
            parts = [
                f"score {self.score:.3f} [{low:.3f}, {high:.3f}] on {examples} example{'' if examples == 1 else 's'}"
            ]
            if self.failed:
                parts.append(f"{self.failed} failed ({_most(row for row in self.rows if not row.ok)})")
            if self.errors:
                parts.append(f"{self.errors} raised ({_most(row for row in self.rows if row.ok)})")
        if self.stopped:
            parts.append(f"stopped after {len(self.rows)} of {self.planned} ({self.stopped})")
        parts.append(str(self.usage))
        if self.metric_usage:
            parts.append(f"the metric {self.metric_usage}")
        parts.append(f"{self.seconds:.1f} s")
        return ", ".join(parts)

    def __repr__(self) -> str:
        return f"<EvaluationResult: {self}>"


def _agreement(texts: Sequence[str]) -> float:
    count = len(texts)
    return sum(same * (same - 1) for same in Counter(texts).values()) / (count * (count - 1))


def _most(rows: Iterable[Evaluation]) -> str:
    errors = Counter(row.error.split(":", 1)[0] for row in rows if row.error)
    (name, _), *others = errors.most_common()
    return f"mostly {name}" if others else name


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _cell(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else json.dumps(value, ensure_ascii=False)


def _inline(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_shortened(value)}" for name, value in fields.items())


def _shortened(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."
