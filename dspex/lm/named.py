"""Models by name: what a `ModelChoice` value or a predictor's ``model`` stands for."""

from __future__ import annotations

import threading

from dspex.errors import DefinitionError
from dspex.execution.settings import current
from dspex.lm.base import BaseLM
from dspex.lm.lm import LM

__all__ = ["lm_named", "register_lm"]

_lock = threading.Lock()
_registered: dict[str, BaseLM] = {}
_made: dict[str, BaseLM] = {}


def register_lm(lm: BaseLM, *, name: str | None = None) -> BaseLM:
    """Let ``name`` (by default the model's own) stand for ``lm`` in this process; gives ``lm`` back.

    Registering another under the same name replaces it.

    >>> from dspex.lm import MockLM
    >>> cheap = register_lm(MockLM(["yes"]), name="mock/cheap")
    >>> lm_named("mock/cheap") is cheap
    True
    """
    if not isinstance(lm, BaseLM):
        raise DefinitionError(
            f"lm must be a model, not {lm!r} ({type(lm).__name__}); "
            'write register_lm(dspex.LM("provider/model"), name="fast")'
        )
    with _lock:
        _registered[lm.model if name is None else name] = lm
    return lm


def lm_named(name: str) -> BaseLM:
    """The model that ``name`` stands for: one that is registered, the configured one, or ``LM(name)``.

    Raises `DefinitionError` when the name is registered nowhere and is no ``"provider/model"``.

    >>> lm_named("openai/gpt-4o-mini") is lm_named("openai/gpt-4o-mini")
    True
    """
    known = _registered.get(name)
    if known is not None:
        return known
    configured = current().lm
    if isinstance(configured, BaseLM) and configured.model == name:
        return configured
    made = _made.get(name)
    if made is None:
        if "/" not in name:
            raise DefinitionError(
                f"no model is registered as {name!r}, and it names no provider.\n"
                f'  right:  "openai/{name}", with the provider before the model\n'
                f"  right:  dspex.lm.register_lm(dspex.LM(...), name={name!r})"
            )
        with _lock:
            made = _made.get(name)
            if made is None:
                made = _made[name] = LM(name)
    return made
