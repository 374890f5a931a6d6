"""The adapter for models that think better without a format: one answers freely, another reads the fields."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dspex.adapters.base import Adapter
from dspex.adapters.chat import ChatAdapter
from dspex.adapters.layout import Layout, Output
from dspex.adapters.lru import LRU
from dspex.adapters.sections import escaped, unescaped
from dspex.adapters.steps import FollowUp, Reading
from dspex.adapters.streaming import AnswerStream
from dspex.adapters.values import output_text
from dspex.errors import DefinitionError, ParseError
from dspex.lm import BaseLM
from dspex.lm.named import lm_named
from dspex.signatures import InputField, Signature

if TYPE_CHECKING:
    from dspex.lm import Completion, LMRequest

__all__ = ["TwoStepAdapter"]

_INSTRUCTIONS = (
    "The text answers a question that you are not shown. Write down the fields that it states, as it states them: "
    "correct nothing, add nothing."
)


class TwoStepAdapter(Adapter):
    """The model answers in its own words; a second call reads the outputs from that answer.

    For models that reason worse when they must keep to a format. The second call may go to a cheaper model:
    ``extraction_model``, a name or a model object; by default it is the one that answered. It is asked in the
    format of ``extraction``, by default `ChatAdapter`. Both calls count in the prediction's usage. See
    `Adapter` for ``templates``. `to_json` keeps the name of the model alone.

    >>> import dspex
    >>> script = ["It must be four, since two and two make four.", {"answer": 4}]
    >>> with dspex.context(lm=dspex.MockLM(script)):
    ...     result = dspex.Predict("question -> answer: int", adapter="two_step")(question="2 + 2?")
    >>> result.answer, result.usage.calls
    (4, 2)
    """

    name: ClassVar[str] = "two_step"
    json_first: ClassVar[bool] = False
    field_form: ClassVar[str] = "{name}"
    follows_up: ClassVar[bool] = True

    def __init__(
        self,
        templates: Mapping[str, str | Path] | None = None,
        *,
        extraction_model: BaseLM | str | None = None,
        extraction: Adapter | None = None,
    ) -> None:
        super().__init__(templates)
        if not isinstance(extraction_model, BaseLM | str | None):
            raise DefinitionError(
                f"extraction_model must be a model or its name, not {extraction_model!r} "
                f"({type(extraction_model).__name__}).\n"
                '  right:  TwoStepAdapter(extraction_model="openai/gpt-4o-mini")'
            )
        self._model = extraction_model
        self._extraction = extraction or ChatAdapter()
        self._signatures: LRU[tuple[int, frozenset[str]], tuple[type[Signature], type[Signature], str]] = LRU(512)

    def parse(self, signature: type[Signature], text: str) -> dict[str, Any]:
        """The outputs in the second model's answer; see `Adapter.parse`."""
        return self._extraction.parse(signature, text)

    def render_answer(self, signature: type[Signature], values: Mapping[str, Any]) -> str:
        """An answer as the second model should write it; see `Adapter.render_answer`."""
        return self._extraction.render_answer(signature, values)

    def reading(
        self, signature: type[Signature], request: LMRequest, completion: Completion, *, lm: BaseLM, reasks: int
    ) -> Reading:
        """Asks for the outputs in the free answer, but for those that the model gave beside it."""
        native = self._layout(signature).native
        while True:
            try:
                beside = {} if native is None else self._beside(native, completion, request)
                break
            except ParseError as error:
                if not reasks:
                    raise
                request = self.reask(request, completion.text, error)
            reasks -= 1
            completion = yield FollowUp(request, lm)
        known = dict.fromkeys(signature.output_fields) | beside
        if len(beside) == len(known) or (completion.tool_calls and not completion.text.strip()):
            return known
        model = lm_named(self._model) if isinstance(self._model, str) else self._model or lm
        asked, name = self._asked(signature, frozenset(beside))
        second = self._extraction.request(
            asked,
            instructions=_INSTRUCTIONS,
            demos=(),
            inputs={name: completion.text},
            capabilities=model.capabilities,
            rollout_id=request.rollout_id,
        )
        answer = yield FollowUp(second, model)
        said = yield from self._extraction.reading(asked, second, answer, lm=model, reasks=reasks)
        return known | said

    def stream(self, signature: type[Signature]) -> AnswerStream:
        """A parser for the second model's answer."""
        return self._extraction.stream(signature)

    def _asked(self, signature: type[Signature], beside: frozenset[str]) -> tuple[type[Signature], str]:
        """The signature of the second question, for what is not ``beside``, and the name of its input."""
        known = self._signatures.get((id(signature), beside))
        if known is None:
            name = "text"
            while name in signature.output_fields:
                name += "_"
            fields = signature.output_fields
            outputs = {name: (field.annotation, field) for name, field in fields.items() if name not in beside}
            asked = Signature({name: (str, InputField()), **outputs}, _INSTRUCTIONS)
            known = (signature, asked, name)  # with the first, so that its id stays its own
            self._signatures.put((id(signature), beside), known)
        return known[1:]

    def read_exact(self, layout: Layout, text: str) -> dict[str, Any] | None:
        return self._extraction.read_exact(layout, text)

    def write_value(self, layout: Layout, output: Output, value: Any) -> str:
        return escaped(output_text(output.field, value, output.value))

    def guard(self, layout: Layout, text: str) -> str:
        return escaped(text)

    def unguard(self, layout: Layout, text: str) -> str:
        return unescaped(text)

    def _options(self) -> dict[str, Any]:
        return {"extraction_model": self._model, "extraction": self._extraction}
