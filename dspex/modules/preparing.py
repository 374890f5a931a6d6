"""What a program would load on its first call, loaded before: so that the first of many examples is like the others."""

from __future__ import annotations

from contextlib import suppress

from dspex.execution import Settings
from dspex.modules.module import Module

__all__ = ["prepare"]


def prepare(program: Module, settings: Settings) -> None:
    """Load the libraries of the models that ``program`` asks, and render what all its prompts share.

    No model is called and no network is used. What is wrong with a predictor is left for its call to say.
    """
    active = {variable.rpartition(".")[0] for variable in program.state().active()}
    for path, predictor in program.named_predictors():
        if path in active:  # not in a branch that is not chosen
            with suppress(Exception):  # an adapter or a model of the user's own may raise anything
                predictor.prepare(settings)
