"""What a program would load on its first call, loaded before: so that the first of many examples is like the others."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from dspex.errors import DefinitionError
from dspex.execution import Settings
from dspex.lm.base import BaseLM
from dspex.modules.module import Module

__all__ = ["models_of", "prepare"]


def models_of(program: Module, settings: Settings) -> list[BaseLM]:
    """The models that the predictors of ``program`` ask, one for each; what is wrong with one is left for its call."""
    found: list[BaseLM] = []
    for predictor in _predictors(program):
        with suppress(Exception):
            lm: Any = predictor._lm(settings)
            if isinstance(lm, BaseLM):
                found.append(lm)
    return found


def prepare(program: Module, settings: Settings) -> None:
    """Load the libraries of the models that ``program`` asks, and render what all its prompts share.

    No model is called and no network is used. What else is wrong with a predictor is left for its call to say.

    Raises `DefinitionError` for what cannot be meant, such as a demo that does not fit the signature: the predictors
    before it would be paid for first.
    """
    for predictor in _predictors(program):
        try:
            predictor.prepare(settings)
        except DefinitionError:
            raise
        except Exception:  # an adapter or a model of the user's own may raise anything
            pass


def _predictors(program: Module) -> list[Any]:
    active = {variable.rpartition(".")[0] for variable in program.state().active()}
    # Not those of a branch that is not chosen.
    return [predictor for path, predictor in program.named_predictors() if path in active]
