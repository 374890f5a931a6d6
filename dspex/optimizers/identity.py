"""What makes two searches the same search: the name under which one is resumed.

Running the same line again must find the work of the run that was killed, and a changed line must not. So a study
that is not named gets its name from everything that decides its results: the program's space and start values,
the examples of every split, the metric's code, the optimizer's settings and the model.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any

from dspex.data import Example
from dspex.modules import Module
from dspex.variables import canonical_json, content_id

__all__ = ["described_callable", "study_name"]


def study_name(
    program: Module,
    metric: Any,
    splits: Sequence[Sequence[Example]],
    settings: dict[str, Any],
    model: Any,
) -> str:
    """``Support-3f9a…``: the program's class and a digest of all that decides the results."""
    predictors = {path: p.signature.key for path, p in program.named_predictors()}
    identity = {
        "space": program.space().hash,
        "state": program.state().fingerprint,
        "signatures": predictors,
        "metric": described_callable(metric),
        "splits": [[example.id for example in split] for split in splits],
        "settings": settings,
        "model": None if model is None else model.to_json(),
    }
    return f"{type(program).__name__}-{content_id(canonical_json(identity))}"


def described_callable(function: Any) -> str:
    """A function by name and source, so that an edited metric starts a new study."""
    while isinstance(function, functools.partial):
        bound = f"{function.args!r}{sorted(function.keywords.items())!r}"
        return f"partial({described_callable(function.func)}, {bound})"
    target = function if inspect.isroutine(function) or inspect.isclass(function) else type(function)
    name = f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', repr(target))}"
    try:
        return f"{name}\n{inspect.getsource(target)}"
    except (OSError, TypeError):  # written in a shell, or in C
        code = getattr(target, "__code__", None)
        return name if code is None else f"{name}\n{code.co_code.hex()}{code.co_consts!r}{code.co_names!r}"
