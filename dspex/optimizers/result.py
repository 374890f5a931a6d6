"""What an optimization returns: the better program, the evidence, and the bill."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs

from dspex.data import Usage
from dspex.evaluate import EvaluationResult, PairedTest, paired_test
from dspex.modules import Module
from dspex.optimizers.scores import objective_of
from dspex.study import Study
from dspex.variables import VariableState
from dspex.variables.messages import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["COMPLETE", "OptimizationResult", "ParetoPoint"]

COMPLETE = "the search was complete"
"""What `OptimizationResult.stopped` says when nothing cut the search short."""


@attrs.frozen
class ParetoPoint:
    """One configuration that no other beats in every objective."""

    state: VariableState
    values: dict[str, float]


@attrs.frozen(kw_only=True)
class OptimizationResult:
    """The outcome of `Optimizer.optimize`.

    ``program`` is the program with the winning values and ``state`` those values. ``baseline`` and ``best`` are the
    evaluations of the start and of the search's winner on the held-out examples, which the search never saw
    (None when the budget was over before they were paid for), and ``test`` compares the two example by
    example. When the winner is worse than the baseline there, ``program`` is the baseline: ``kept_baseline``.
    ``usage`` is what the whole study has consumed, runs before a resumption included; ``seconds`` is this run's.
    ``budget`` is the budget as it was left, `Budget.to_json`; None when there was none.

    Of several objectives ``pareto`` has, by their values on the valset, the configurations that none beats in all.
    The winner that `Task.best` names is one of them. A search of one's own may return another, a search that was cut
    short one that was scored on a part of the valset, and the comparison may have kept the baseline.

    Example:
        >>> import dspex
        >>> trainset = [dspex.Example(text=f"{n} plus 1", sum=n + 1).with_inputs("text") for n in range(40)]
        >>> def model(messages):  # one that needs to be shown how
        ...     return {"sum": int(messages[-1]["content"].split(" plus")[0].split()[-1]) + (len(messages) > 2)}
        >>> result = dspex.optimizers.LabeledFewShot(candidates=2).optimize(
        ...     dspex.Predict("text -> sum: int", lm=dspex.MockLM(model)),
        ...     trainset,
        ...     lambda example, prediction: prediction.sum == example.sum,
        ...     storage=None,
        ... )
        >>> result.baseline.score, result.best.score, result.kept_baseline
        (0.0, 1.0, False)
        >>> print(result.verdict())
        significant gain: +1.000 on 14 held-out examples (p < 0.001, paired)
        >>> result.program(text="5 plus 1").sum
        6
    """

    program: Module
    state: VariableState
    start: VariableState
    study: Study
    optimizer: str
    baseline: EvaluationResult | None
    best: EvaluationResult | None
    test: PairedTest | None
    kept_baseline: bool
    pareto: tuple[ParetoPoint, ...]
    objectives: dict[str, str]
    usage: Usage
    budget: dict[str, Any] | None
    seconds: float
    stopped: str
    resumed_rows: int

    @property
    def significant(self) -> bool:
        """Whether the held-out gain is larger than chance explains (paired test, 5 %)."""
        return self.test is not None and self.test.significant and self._sign * self.test.difference > 0

    @property
    def tests(self) -> dict[str, PairedTest]:
        """The winner against the baseline in each further objective, on the held-out examples that both have scored."""
        if self.baseline is None or self.best is None:
            return {}
        found = {}
        for name in list(self.objectives)[1:]:
            before, after = _by_example(self.baseline, name), _by_example(self.best, name)
            shared = [example for example in after if example in before]
            if shared:
                found[name] = paired_test([after[one] for one in shared], [before[one] for one in shared])
        return found

    @property
    def _sign(self) -> float:
        return 1.0 if next(iter(self.objectives.values())) == "maximize" else -1.0

    def verdict(self) -> str:
        """One honest sentence about the gain."""
        if self.test is None:
            why = "no held-out example was scored" if self.stopped == COMPLETE else self.stopped
            return f"no held-out comparison: {why}"
        gain = f"{self.test.difference:+.3f}"
        p = f"p {'< 0.001' if self.test.p_value < 0.001 else f'= {self.test.p_value:.3f}'}"
        if self.significant:
            return f"significant gain: {gain} on {self.test.count} held-out examples ({p}, paired)"
        kept = "; the baseline is kept" if self.kept_baseline else ""
        return f"no significant gain: {gain} on {self.test.count} held-out examples ({p}, paired){kept}"

    def report(self) -> str:
        """The result as text: held-out scores with intervals, the verdict, what changed, and the bill."""
        from io import StringIO

        from rich.console import Console

        out = StringIO()
        Console(file=out, width=100, no_color=True, highlight=False).print(self)
        return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())

    def _repr_html_(self) -> str:
        from io import StringIO

        from rich.console import Console

        console = Console(file=StringIO(), width=110, record=True, highlight=False)
        console.print(self)
        page = '<pre style="white-space:pre;overflow-x:auto;line-height:normal">{code}</pre>'
        return console.export_html(inline_styles=True, code_format=page)

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "study": self.study.study_name,
            "optimizer": self.optimizer,
            "verdict": self.verdict(),
            "significant": self.significant,
            "baseline": None if self.baseline is None else self.baseline.to_json(),
            "best": None if self.best is None else self.best.to_json(),
            "test": None if self.test is None else attrs.asdict(self.test),
            "tests": {name: attrs.asdict(test) for name, test in self.tests.items()},
            "kept_baseline": self.kept_baseline,
            "state": self.state.to_json(),
            "usage": self.usage.to_json(),
            "budget": self.budget,
            "seconds": self.seconds,
            "stopped": self.stopped,
        }

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = [Text(self._headline(), style="bold"), ""]
        parts += [self._scores(), Text(self.verdict(), style="green" if self.significant else "yellow"), ""]
        if tests := self.tests:
            parts += [self._further(tests), ""]
        if len(self.objectives) > 1:
            parts += [Text("not beaten in every objective, on the valset", style="bold"), self._front(), ""]
        parts += [Text("what changed", style="bold"), Text(self._changes()), ""]
        parts.append(Text(self._bill()))
        return Group(*parts)

    def _headline(self) -> str:
        trials = counted(len(self.study.trials), "trial")
        rows = counted(len(self.study.ledger), "evaluation")
        resumed = f", {self.resumed_rows} of them from an earlier run" if self.resumed_rows else ""
        return f"{self.optimizer}: {trials}, {rows}{resumed} (stopped: {self.stopped})"

    def _scores(self) -> RenderableType:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="dim")
        for column, side in (
            ("held-out", "left"),
            ("examples", "right"),
            ("score", "right"),
            ("95 % interval", "left"),
            ("failed", "right"),
            ("raised", "right"),
        ):
            table.add_column(column, justify=side)  # type: ignore[arg-type]  # the two literals are given above
        for name, result in (("baseline", self.baseline), ("best", self.best)):
            if result is None:
                table.add_row(name, "0", "-", "not evaluated", "-", "-")
                continue
            low, high = result.interval
            score = "-" if result.score is None or math.isnan(result.score) else f"{result.score:.3f}"
            table.add_row(
                name,
                str(len(result.rows)),
                score,
                f"[{low:.3f}, {high:.3f}]".replace("[", "\\["),
                str(result.failed),
                str(result.errors),
            )
        if self.test is not None:
            low, high = self.test.interval
            table.add_row(
                "difference",
                str(self.test.count),
                f"{self.test.difference:+.3f}",
                f"\\[{low:+.3f}, {high:+.3f}]",
                "",
                "",
            )
        return table

    def _further(self, tests: dict[str, PairedTest]) -> RenderableType:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("held-out")
        for column in ("baseline", "best", "difference"):
            table.add_column(column, justify="right")
        table.add_column("95 % interval")
        table.add_column("p (paired)", justify="right")
        for name, test in tests.items():
            low, high = test.interval
            table.add_row(
                f"{name} ({self.objectives[name]})",
                f"{_mean(self.baseline, name):.4g}",
                f"{_mean(self.best, name):.4g}",
                f"{test.difference:+.4g}",
                f"\\[{low:+.4g}, {high:+.4g}]",
                "< 0.001" if test.p_value < 0.001 else f"{test.p_value:.3f}",
            )
        return table

    def _front(self) -> RenderableType:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="dim")
        for name, direction in self.objectives.items():
            table.add_column(f"{name} ({direction})", justify="right")
        table.add_column("values that differ from the start")
        shown: dict[tuple[float, ...], list[ParetoPoint]] = {}
        for point in self.pareto:
            shown.setdefault(tuple(point.values[name] for name in self.objectives), []).append(point)
        for point, *alike in shown.values():
            changes = point.state.changes()
            brief = ", ".join(f"{path}={_brief(value)}" for path, value in changes.items()) or "(the start)"
            brief += f" (and {len(alike)} more)" if alike else ""
            table.add_row(*(f"{point.values[name]:.4g}" for name in self.objectives), brief.replace("[", "\\["))
        return table

    def _changes(self) -> str:
        active = set(self.state.active()) | set(self.start.active())
        lines = []
        for path in self.state:
            old, new = self.start[path], self.state[path]
            if path in active and old != new:
                lines.append(f"  {path}: {_brief(old)} → {_brief(new)}")
        if lines:
            return "\n".join(lines)
        return "  nothing: no other configuration was shown to be better than the program's own values"

    def _bill(self) -> str:
        minutes, seconds = divmod(round(self.seconds), 60)
        used = "" if self.budget is None else f" · {_used(self.budget)}"
        when = " in this run" if self.resumed_rows else ""
        return f"{self.usage} · {minutes} min {seconds:02d} s{when}{used} · study {self.study.study_name!r}"


def _by_example(result: EvaluationResult, objective: str) -> dict[str, float]:
    values = {row.example_id: objective_of(row, objective) for row in result.rows if row.ok}
    return {example: value for example, value in values.items() if not math.isnan(value)}


def _mean(result: EvaluationResult | None, objective: str) -> float:
    values = {} if result is None else _by_example(result, objective)
    return math.fsum(values.values()) / len(values) if values else math.nan


def _used(budget: dict[str, Any]) -> str:
    shares = [
        f"{min(1.0, budget['spent'][name] / limit):.0%} of {f'${limit:g}' if name == 'usd' else f'{limit:,g} {name}'}"
        for name, limit in budget["limits"].items()
    ]
    return f"budget: {', '.join(shares)} used"


def _brief(value: Any, limit: int = 60) -> str:
    if isinstance(value, tuple) and all(hasattr(item, "keys") for item in value):
        return counted(len(value), "demo") if value else "no demos"
    text = repr(float(f"{value:.4g}") if type(value) is float else value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
