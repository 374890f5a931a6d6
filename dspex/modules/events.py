"""What a streamed run says, event by event."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

__all__ = ["FieldDelta", "Final", "Restart", "Status", "StreamEvent"]


class FieldDelta(NamedTuple):
    """More of the text of an output, while the model writes it.

    ``path`` is the predictor's in the program (``""`` when it is the program, and when it is no part of it) and
    ``call`` the number of its call in this run, from 0, which tells the turns of a loop and parallel calls apart.

    >>> import dspex
    >>> predict = dspex.Predict("question -> answer", lm=dspex.MockLM([{"answer": "In Paris"}]))
    >>> [event for event in predict.stream(question="Where?", status=False) if isinstance(event, dspex.FieldDelta)][0]
    FieldDelta(path='', field='answer', delta='In', call=0)
    """

    path: str
    field: str
    delta: str
    call: int = 0


class Restart(NamedTuple):
    """All deltas so far of this call of this predictor are void: its answer comes anew.

    Because the model was asked again (after a failure, by a fallback, or since its answer could not be read), or
    because the answer turned out to mean something else than what was shown; ``reason`` says which.

    >>> import dspex
    >>> unread = "[[ ## answer ## ]]\\nParis\\n\\n[[ ## sure ## ]]\\nwho knows"
    >>> lm = dspex.MockLM([unread, {"answer": "Paris", "sure": True}])
    >>> predict = dspex.Predict("question -> answer, sure: bool", lm=lm, reasks=1)
    >>> for event in predict.stream(question="Capital of France?", status=False):
    ...     if isinstance(event, dspex.Restart):
    ...         print(event)
    Restart(path='', reason='the answer could not be read, so the model was asked again', call=0)
    """

    path: str
    reason: str
    call: int = 0


class Status(NamedTuple):
    """A module, a tool or a model starts, ends or fails.

    ``path`` is that of the module, or of the module that called; ``name`` the module's class, the tool's or the
    model's name; ``detail`` the inputs at the start, what came out at the end, and the error of a failure.

    >>> import dspex
    >>> predict = dspex.Predict("question -> answer", lm=dspex.MockLM([{"answer": "Paris"}]))
    >>> first, *_ = predict.stream(question="Where?")
    >>> first.kind, first.name, first.state, first.detail
    ('module', 'Predict', 'start', {'question': 'Where?'})
    """

    kind: Literal["module", "tool", "lm"]
    path: str
    name: str
    state: Literal["start", "end", "error"]
    detail: Any = None


class Final(NamedTuple):
    """The last event: what a call of the program would have returned.

    >>> import dspex
    >>> predict = dspex.Predict("question -> answer", lm=dspex.MockLM([{"answer": "Paris"}]))
    >>> *_, last = predict.stream(question="Where?")
    >>> last.prediction.answer
    'Paris'
    """

    prediction: Any


StreamEvent: TypeAlias = FieldDelta | Restart | Status | Final
"""What `dspex.Module.stream` and `dspex.Module.astream` yield."""
