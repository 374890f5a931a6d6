"""Models by name: what a program's ``model`` variable chooses."""

from __future__ import annotations

from functools import lru_cache

from dspex.lm.base import BaseLM

__all__ = ["lm_named"]


@lru_cache(maxsize=256)
def lm_named(name: str) -> BaseLM:
    """The model of this name with default settings, one object per name and process."""
    from dspex.lm.lm import LM

    return LM(name)
