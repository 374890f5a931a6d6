"""Calls as text that a person can read."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

from dspex.errors import DefinitionError
from dspex.lm.types import LMRequest, LMResponse, Message, canonical

__all__ = ["RECENT", "Transcript", "inspect_history", "last"]

_ENCODED = re.compile(r"[A-Za-z0-9+/=]{200,}")  # an image, sound or file, which no person reads
RECENT: deque[tuple[LMRequest, LMResponse]] = deque(maxlen=64)
"""The last calls of all models in this process that were answered."""


class Transcript(str):
    """Text that an interactive session shows as it is, line by line."""

    __slots__ = ()

    @classmethod
    def of(cls, calls: Iterable[tuple[LMRequest, LMResponse]]) -> Transcript:
        """Requests and their answers, one call after the other."""
        blocks = []
        for request, response in calls:
            lines = []
            for message in request.messages:
                lines += [f"[{message.get('role')}]", _content(message)]
            source = "cached answer" if response.cached else "answer"
            for number, completion in enumerate(response.completions, 1):
                which = f" {number} of {len(response.completions)}" if len(response.completions) > 1 else ""
                took = f": {response.usage}" if number == 1 else ""
                cut = ", cut off at max_tokens" if completion.finish_reason == "length" else ""
                lines += [f"[{source}{which} of {response.model}{cut}{took}]", completion.text]
            blocks.append("\n".join(lines))
        return cls("\n\n".join(blocks) if blocks else "no calls yet")

    def __repr__(self) -> str:
        return str(self)


def inspect_history(n: int = 1) -> Transcript:
    """The last ``n`` calls of this process, of any model, as text that a person can read; 64 at most.

    >>> from dspex.lm import MockLM
    >>> _ = MockLM(["Paris"])("Capital of France?")
    >>> print(inspect_history(1))
    [user]
    Capital of France?
    [answer of mock/mock: 1 call, 7 tokens, $0]
    Paris
    """
    return Transcript.of(last(RECENT, n))


def last(calls: Iterable[tuple[LMRequest, LMResponse]], n: int) -> list[tuple[LMRequest, LMResponse]]:
    """The last ``n`` of ``calls``."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise DefinitionError(
            f"n must be how many calls to show, 0 or more, not {n!r} ({type(n).__name__}); write inspect_history(3)"
        )
    return list(calls)[-n:] if n else []


def _content(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    text = canonical({name: value for name, value in message.items() if name != "role"})
    return _ENCODED.sub(lambda match: f"{match[0][:20]}...({len(match[0])} characters)", text)
