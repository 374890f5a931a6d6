"""`ChainOfThought`: a `Predict` that reasons before it answers."""

from __future__ import annotations

from typing import Any

from dspex.modules.predict import Predict
from dspex.signatures import OutputField, Signature, ensure_signature

__all__ = ["ChainOfThought"]


class ChainOfThought(Predict):
    """`Predict` with an output ``reasoning`` before the others, so that the model thinks on paper first.

    Takes the arguments of `Predict`. Source: Wei et al. 2022, "Chain-of-Thought Prompting Elicits Reasoning
    in Large Language Models", section 2.

    Example:
        >>> import dspex
        >>> solve = dspex.ChainOfThought("question -> answer: int")
        >>> list(solve.signature.output_fields)
        ['reasoning', 'answer']
    """

    def __init__(self, signature: str | type[Signature], **arguments: Any) -> None:
        asked = ensure_signature(signature)
        if "reasoning" not in asked.fields:
            asked = asked.insert(0, "reasoning", OutputField(desc="think step by step before answering"), str)
        super().__init__(asked, **arguments)
