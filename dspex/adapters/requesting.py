"""Requests: a question with its head, planned by what the model can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from dspex.adapters.layout import Layout
from dspex.adapters.lru import LRU
from dspex.adapters.native import CITING, Native, cites, merged, rich_value, segments, tool_schema
from dspex.adapters.rendering import Head, Rendering, completed
from dspex.adapters.values import RichValue
from dspex.errors import DataError
from dspex.lm.types import LMRequest, MessageBlock

if TYPE_CHECKING:
    from pathlib import Path

    from dspex.signatures import Signature
    from dspex.types import History

__all__ = ["Requesting"]

_NO_PARAMS: Final[Mapping[str, Any]] = {}
_NONE: Final[frozenset[str]] = frozenset()


class Requesting(Rendering):
    """Makes requests of what `Rendering` renders, and of what is more than text."""

    def __init__(self, templates: Mapping[str, str | Path] | None = None) -> None:
        super().__init__(templates)
        self._native_heads: LRU[tuple[int, int, str, frozenset[str]], Head] = LRU(128)

    def request(
        self,
        signature: type[Signature],
        *,
        instructions: str,
        demos: Sequence[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        capabilities: frozenset[str] = _NONE,
        params: Mapping[str, Any] = _NO_PARAMS,
        rollout_id: int = 0,
    ) -> LMRequest:
        """The request that asks for the signature's outputs.

        Its head (system message and demos) is rendered once and shared by all requests with the same
        signature, instructions and demos. Inputs that are text go in as they are, others as JSON; an input
        that is not given has its default.

        Raises `DefinitionError` naming an input that is missing or that the signature does not have,
        `DataError` naming one that has no plain form.
        """
        head = self._heads.get((id(signature), id(demos), instructions))
        if head is None:
            native = self._layout(signature).native
            if native is not None:
                return self._native_request(native, instructions, demos, inputs, capabilities, params, rollout_id)
            head = self._head(signature, instructions, demos)
        try:
            content: Any = self._question(head, inputs)
        except RichValue:
            content = self._content(head.layout, inputs, capabilities, remind=not head.shows_format)
        return LMRequest(
            head.block,
            ({"role": "user", "content": content},),
            params,
            self.schema(head.layout) if "json_schema" in capabilities else None,
            None,
            rollout_id,
        )

    def prepare(self, signature: type[Signature], instructions: str, demos: Sequence[Mapping[str, Any]]) -> None:
        """Render the head and make what reads the outputs, so that the first request need not.

        Raises what `head` does.
        """
        self.head(signature, instructions, demos)
        for field in signature.output_fields.values():
            _ = field.adapter

    def head(self, signature: type[Signature], instructions: str, demos: Sequence[Mapping[str, Any]]) -> MessageBlock:
        """The system message and the demos: each a question and its answer, as turns of a conversation.

        A demo that lacks some of the fields is not shown as a turn, which would teach the model to leave
        them out, but inside the system message, with the fields that it has.

        Raises `DefinitionError` for a demo that has no input or no output of the signature.
        """
        head = self._heads.get((id(signature), id(demos), instructions))
        if head is None and (native := self._layout(signature).native) is not None:
            return self._native_head(native.asked, instructions, demos, _NONE)
        return (head or self._head(signature, instructions, demos)).block

    def schema(self, layout: Layout) -> dict[str, Any] | None:
        """The JSON schema that a model able to follow one is given, if the format is JSON."""
        return None

    # -- more than text ----------------------------------------------------------------------------------

    def _native_request(
        self,
        native: Native,
        instructions: str,
        demos: Sequence[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        capabilities: frozenset[str],
        params: Mapping[str, Any],
        rollout_id: int,
    ) -> LMRequest:
        """The request of a signature with media, earlier turns or tools, planned by what the model can do."""
        if native.cited and "documents" in capabilities:
            citing = capabilities | {CITING}
            request = self._planned(native, instructions, demos, inputs, citing, params, rollout_id)
            if cites(request):
                return request
        return self._planned(native, instructions, demos, inputs, capabilities, params, rollout_id)

    def _planned(
        self,
        native: Native,
        instructions: str,
        demos: Sequence[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        capabilities: frozenset[str],
        params: Mapping[str, Any],
        rollout_id: int,
    ) -> LMRequest:
        inputs = dict(inputs)
        calls, citing = bool(native.calls and native.tools and "tools" in capabilities), CITING in capabilities
        signature = native.asking(calls=calls, citing=citing)
        if signature is not None and instructions == native.signature.instructions:
            instructions = signature.instructions  # those that name the fields, when there are no others
        turns: list[dict[str, Any]] = []
        if native.history is not None and (given := inputs.pop(native.history, None)) is not None:
            history: History = rich_value(native.signature.fields[native.history], given)
            turns = self._turns(self._layout(native.asked), history, capabilities)
        if calls:
            tools = [tool for name in native.tools for tool in _listed(inputs.pop(name, ()))]
            params = {**params, "tools": [tool_schema(tool) for tool in tools]}
        if signature is None:  # all that is asked for is beside the text, and needs no format
            asked = native.asked.delete(native.tools[0]) if calls and len(native.tools) == 1 else native.asked
            layout = self._layout(asked)
            head = MessageBlock([{"role": "system", "content": instructions}])
        else:
            layout = self._layout(signature)
            head = self._native_head(signature, instructions, demos, capabilities)
        content = self._content(layout, inputs, capabilities, remind=signature is not None and len(head) == 1)
        # A model that cites cannot be held to a schema at the same time.
        held = signature is not None and "json_schema" in capabilities and not citing
        schema = self.schema(layout) if held else None
        return LMRequest(head, (*turns, {"role": "user", "content": content}), params, schema, None, rollout_id)

    def _native_head(
        self,
        signature: type[Signature],
        instructions: str,
        demos: Sequence[Mapping[str, Any]],
        capabilities: frozenset[str],
    ) -> MessageBlock:
        key = (id(signature), id(demos), instructions, capabilities)
        head = self._native_heads.get(key)
        if head is None:
            layout = self._layout(signature)
            shown = [demo for demo in demos if any(name in demo for name in layout.names)]
            block = MessageBlock(
                self._head_messages(
                    layout,
                    instructions,
                    shown,
                    lambda layout, demo: self._content(layout, demo, capabilities, remind=False),
                )
            )
            head = Head(layout, demos, block)
            if isinstance(demos, tuple):
                self._native_heads.put(key, head)
        return head.block

    def _content(
        self, layout: Layout, values: Mapping[str, Any], capabilities: frozenset[str], *, remind: bool
    ) -> str | list[dict[str, Any]]:
        """The content of a question that may hold parts."""
        if any(name not in values for name in layout.input_names) or remind:
            values = completed(layout, {k: v for k, v in values.items() if remind or k in layout.input_names})
        rich = layout.native.rich if layout.native is not None else _NONE
        found = []
        for field in layout.input_fields:
            value = rich_value(field, values[field.name]) if field.name in rich else values[field.name]
            pieces = segments(value, field.name, capabilities)
            found.append([self.guard(layout, one) if isinstance(one, str) else one for one in pieces])
        around = layout.question if remind else layout.demo
        if around is None:
            # A template of the user's own says where the text goes; the parts follow it.
            texts = ["".join(one if isinstance(one, str) else "(below)" for one in pieces) for pieces in found]
            text = self._rendered_question(layout, texts, remind=remind)
            return merged([text, *(one for pieces in found for one in pieces if not isinstance(one, str))])
        content: list[Any] = [around[0]]
        for pieces, after in zip(found, around[1:], strict=True):
            content += [*pieces, after]
        return merged(content)

    def _turns(self, layout: Layout, history: History, capabilities: frozenset[str]) -> list[dict[str, Any]]:
        """Earlier turns as turns: of fields, as far as they are known, or as they were."""
        turns: list[dict[str, Any]] = []
        for index, turn in enumerate(history.messages):
            if turn.keys() == {"role", "content"}:
                turns.append(turn)
                continue
            unknown = [name for name in turn if name not in layout.signature.fields]
            if unknown:
                raise DataError(
                    f"turn {index} of the history has {unknown[0]!r}, which is no field of "
                    f"`{layout.signature.spec}`.\n  right:  {{'role': 'user', 'content': ...}}, or the fields of a turn"
                )
            if all(name in turn for name in layout.input_names):
                turns.append({"role": "user", "content": self._content(layout, turn, capabilities, remind=False)})
            elif asked := [
                v.with_value(self._text(layout, turn[v.name], v.name)) for v in layout.inputs if v.name in turn
            ]:
                content = self._user.render(inputs=asked, outputs=layout.views, remind=False)
                turns.append({"role": "user", "content": content})
            known = [output for output in layout.outputs if output.name in turn]
            if known:
                fields = [o.view.with_value(self.write_value(layout, o, turn[o.name])) for o in known]
                turns.append({"role": "assistant", "content": self._assistant.render(outputs=fields)})
        return turns


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
