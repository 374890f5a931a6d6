"""What calls cost, against DSPy 3.4 in the same run: modules, models and their cache, and many calls at once."""

from __future__ import annotations

import sys

import _calls_at_once
import _calls_cache
import _calls_predict
from _measure import verdict


def main() -> int:
    return verdict({**_calls_predict.claims(), **_calls_cache.claims(), **_calls_at_once.claims()})


if __name__ == "__main__":
    sys.exit(main())
