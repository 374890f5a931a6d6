"""DSPy as the peer of a comparison, as it comes.

Its history of calls is on, as that of dspex is; its cache is off for what is compared without one. There are two
models that answer a constant: one in each of the two ways DSPy 3.4 knows to write a model. What dspex is compared to
is the faster one, row by row.
"""

from __future__ import annotations

import warnings
from types import SimpleNamespace

warnings.simplefilter("ignore", DeprecationWarning)  # 3.4 announces the end of one of the two ways

import dspy  # noqa: E402 - the filter has to be there first
from dspy.lm15 import Message, Response, TextPart, Usage  # noqa: E402

dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)


class SubclassLM(dspy.BaseLM):
    """A subclass of `dspy.BaseLM` with a ``forward``."""

    def __init__(self, text: str) -> None:
        super().__init__("mock/subclass", cache=False)
        message = SimpleNamespace(content=text)
        self.response = SimpleNamespace(
            choices=[SimpleNamespace(message=message, finish_reason="stop")], usage={}, model="mock"
        )
        self.asked = 0

    def forward(self, prompt=None, messages=None, **kwargs):
        self.asked += 1
        return self.response


class Engine:
    """An engine for `dspy.LM`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked = 0

    def complete(self, request):
        self.asked += 1
        return Response(
            id=None,
            model="mock",
            message=Message.assistant([TextPart(self.text)]),
            finish_reason="stop",
            usage=Usage(input_tokens=1, output_tokens=1, total_tokens=2),
        )


def models(text: str, *, cache: bool = False) -> dict[str, tuple[dspy.BaseLM, SubclassLM | Engine]]:
    """By kind, a model that answers ``text`` and what counts its calls; only engines can be cached."""
    subclass, engine = SubclassLM(text), Engine(text)
    found = {"BaseLM": (subclass, subclass), "engine": (dspy.LM("mock/engine", engine=engine, cache=cache), engine)}
    if cache:
        del found["BaseLM"]
    return found
