"""Evaluation: programs on examples, metrics, and how sure a score is."""

from __future__ import annotations

from dspex.evaluate.evaluate import Evaluate
from dspex.evaluate.metrics import (
    FieldMetric,
    answer_contains,
    answer_exact_match,
    answer_f1,
    contains,
    exact_match,
    f1,
    field_accuracy,
    normalize_text,
)
from dspex.evaluate.one import ExampleResult, ExampleRun, aevaluate_one, evaluate_one
from dspex.evaluate.program import FunctionProgram, Program, as_program
from dspex.evaluate.progress import Bar, Progress, Tally
from dspex.evaluate.result import EvaluationResult
from dspex.evaluate.scoring import MEASURED, Metric, Scorer
from dspex.evaluate.statistics import (
    Interval,
    PairedTest,
    mean_interval,
    paired_test,
    score_interval,
    wilson_interval,
)
from dspex.evaluate.terms import Terms

__all__ = [
    "MEASURED",
    "Bar",
    "Evaluate",
    "EvaluationResult",
    "ExampleResult",
    "ExampleRun",
    "FieldMetric",
    "FunctionProgram",
    "Interval",
    "Metric",
    "PairedTest",
    "Program",
    "Progress",
    "Scorer",
    "Tally",
    "Terms",
    "aevaluate_one",
    "answer_contains",
    "answer_exact_match",
    "answer_f1",
    "as_program",
    "contains",
    "evaluate_one",
    "exact_match",
    "f1",
    "field_accuracy",
    "mean_interval",
    "normalize_text",
    "paired_test",
    "score_interval",
    "wilson_interval",
]
