"""Data that flows through programs and studies: examples in, predictions out, one record per result."""

from __future__ import annotations

from dspex.data.evaluation import Evaluation
from dspex.data.example import RESERVED_EXAMPLE_FIELDS, Example
from dspex.data.loading import from_dicts, load_csv, load_jsonl, require_examples
from dspex.data.plain import plain_data
from dspex.data.prediction import RESERVED_PREDICTION_FIELDS, Completions, Prediction
from dspex.data.score import Score
from dspex.data.splits import Split, sample, split
from dspex.data.usage import Usage

__all__ = [
    "RESERVED_EXAMPLE_FIELDS",
    "RESERVED_PREDICTION_FIELDS",
    "Completions",
    "Evaluation",
    "Example",
    "Prediction",
    "Score",
    "Split",
    "Usage",
    "from_dicts",
    "load_csv",
    "load_jsonl",
    "plain_data",
    "require_examples",
    "sample",
    "split",
]
