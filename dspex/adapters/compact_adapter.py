"""The adapter for answers with deep types: JSON, asked for by type definitions."""

from __future__ import annotations

from typing import ClassVar

from dspex.adapters.json_adapter import JSONAdapter

__all__ = ["CompactAdapter"]


class CompactAdapter(JSONAdapter):
    """The answer is JSON as with `JSONAdapter`, asked for by TypeScript-like definitions of its types.

    Each record is defined once, under its name, so nested, shared and recursive types take a fraction of the
    tokens that a JSON schema or a sketch of each field takes. See `Adapter` for ``templates``; the system
    template has them as ``definitions``.

    >>> from dspex.signatures import Signature
    >>> labels = Signature("text -> label: Literal['spam', 'ham'], reasons: list[str]", "Judge the mail.")
    >>> print(CompactAdapter().head(labels, "Judge the mail.", ())[0]["content"])
    Judge the mail.
    <BLANKLINE>
    Answer with one JSON object of the type Answer, with nothing before or after it:
    <BLANKLINE>
    type Answer = {
      label: "spam" | "ham",
      reasons: string[],
    }
    """

    name: ClassVar[str] = "compact"
