"""What every adapter does: the head of a request rendered once, its tail per call, answers read back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from dspex.adapters.layout import Layout, Output, joined
from dspex.adapters.lru import LRU
from dspex.adapters.native import Native, called, merged, rich_value, segments, tool_schema
from dspex.adapters.recovery import recovered
from dspex.adapters.steps import FollowUp, Reading
from dspex.adapters.streaming import AnswerStream, WholeStream
from dspex.adapters.templating import (
    TEMPLATE_VARIABLES,
    Template,
    TemplateField,
    shipped_template,
    user_template,
)
from dspex.adapters.values import RichValue, input_text, output_text
from dspex.data.example import Example
from dspex.errors import DataError, DefinitionError, ParseError
from dspex.lm.types import LMRequest, MessageBlock
from dspex.types import History, Reasoning

if TYPE_CHECKING:
    from dspex.lm import BaseLM, Completion
    from dspex.signatures import Signature

__all__ = ["Adapter"]

_NO_PARAMS: Final[Mapping[str, Any]] = {}
_NONE: Final[frozenset[str]] = frozenset()


class _Head:
    """A rendered head and what it was rendered from, which it keeps alive, so that their ids stay theirs."""

    __slots__ = ("block", "demos", "layout", "shows_format")

    def __init__(self, layout: Layout, demos: Sequence[Any], block: MessageBlock) -> None:
        self.layout = layout
        self.demos = demos
        self.block = block
        self.shows_format = len(block) > 1


class Adapter(ABC):
    """How a signature becomes messages, and an answer the signature's outputs.

    ``templates`` replaces some of the Jinja2 templates that prompts are made of: ``system`` (may use
    ``instructions``, ``inputs``, ``outputs``, ``examples``, ``definitions``), ``user`` (``inputs``, ``outputs``,
    ``remind``), ``assistant`` (``outputs``) and ``reask`` (``problems``); a `Path`, a str that ends in ``.j2``,
    or the text itself. They run in a sandbox, and an undefined name is an error.

    Adapters are immutable, equal when their templates are, and safe to share between threads. To write one,
    give a subclass a ``name``, ``json_first``, ``field_form`` and ``default_templates``, implement
    `read_exact`, `write_value`, `guard` and `unguard`, and make it known with `register_adapter`.

    Raises `DefinitionError` for a template that cannot be read or parsed, naming its line.
    """

    name: ClassVar[str]
    json_first: ClassVar[bool]
    """Whether an answer that is not well-formed is taken for JSON before it is taken for sections."""
    tags_first: ClassVar[bool] = False
    """Whether a field is looked for between tags before it is looked for under headers."""
    field_form: ClassVar[str]
    """How a field looks in an answer, ``{name}`` being its name; error messages show it."""

    stream_class: ClassVar[type[AnswerStream]] = WholeStream
    """The incremental parser of the format."""
    follows_up: ClassVar[bool] = False
    """Whether reading an answer always takes a further question; see `reading`."""

    default_templates: ClassVar[Mapping[str, str | Path]] = {}
    """The adapter's own templates; those of the adapters that come with dspex are files of the package."""

    def __init__(self, templates: Mapping[str, str | Path] | None = None) -> None:
        given = templates or {}
        own = {role: user_template(self.name, role, given[role]) for role in given}
        self._templates = own
        self._system = self._template("system")
        self._user = self._template("user")
        self._assistant = self._template("assistant")
        self._layouts: LRU[int, Layout] = LRU(512)
        self._heads: LRU[tuple[int, int, str], _Head] = LRU(1024)
        self._native_heads: LRU[tuple[int, int, str, frozenset[str]], _Head] = LRU(128)
        self._blocks: LRU[tuple[str, str, tuple[str, ...]], MessageBlock] = LRU(512)

    def _template(self, role: str) -> Template:
        given = self._templates.get(role)
        if given is None and role in self.default_templates:
            given = user_template(self.name, role, self.default_templates[role])
        return given or shipped_template(self.name, role)

    # -- out -------------------------------------------------------------------------------------------

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

    def _head(self, signature: type[Signature], instructions: str, demos: Sequence[Mapping[str, Any]]) -> _Head:
        layout = self._layout(signature)
        key = _content_key(signature, instructions, demos)
        block = self._blocks.get(key) if key is not None else None
        if block is None:
            block = MessageBlock(self._head_messages(layout, instructions, demos))
            if key is not None:
                self._blocks.put(key, block)
        head = _Head(layout, demos, block)
        if isinstance(demos, tuple):  # any other sequence may have other items at the next call
            self._heads.put((id(signature), id(demos), instructions), head)
        return head

    def _layout(self, signature: type[Signature]) -> Layout:
        # By id: the layout keeps its signature alive, so the id cannot become another's.
        layout = self._layouts.get(id(signature))
        if layout is None:
            layout = Layout(signature, user=self._user, assistant=self._assistant)
            self._layouts.put(id(signature), layout)
        return layout

    def _head_messages(
        self,
        layout: Layout,
        instructions: str,
        demos: Sequence[Mapping[str, Any]],
        capabilities: frozenset[str] | None = None,
    ) -> list[dict[str, Any]]:
        turns: list[dict[str, Any]] = []
        examples: list[list[TemplateField]] = []
        for index, demo in enumerate(demos):
            _check_demo(layout, demo, index)
            fields = layout.signature.fields
            if all(name in demo for name in fields):
                if capabilities is None:
                    asked: Any = self._demo_question(layout, demo)
                else:
                    asked = self._content(layout, demo, capabilities, remind=False)
                turns.append({"role": "user", "content": asked})
                turns.append({"role": "assistant", "content": self._answer(layout, demo)})
            else:
                examples.append(self._known_fields(layout, demo))
        system = self._system.render(
            instructions=instructions,
            inputs=layout.inputs,
            outputs=layout.views,
            examples=examples,
            definitions=layout.definitions,
        )
        return [{"role": "system", "content": system}, *turns]

    def _known_fields(self, layout: Layout, demo: Mapping[str, Any]) -> list[TemplateField]:
        given = [
            view.with_value(self._text(layout, demo[view.name], view.name))
            for view in layout.inputs
            if view.name in demo
        ]
        known = [
            output.view.with_value(self.guard(layout, output_text(output.field, demo[output.name], output.value)))
            for output in layout.outputs
            if output.name in demo
        ]
        return given + known

    def _demo_question(self, layout: Layout, demo: Mapping[str, Any]) -> str:
        texts = [self.guard(layout, input_text(demo[name], name)) for name in layout.input_names]
        if layout.demo is not None:
            return joined(layout.demo, texts)
        return self._rendered_question(layout, texts, remind=False)

    def _question(self, head: _Head, inputs: Mapping[str, Any]) -> str:
        layout = head.layout
        names = layout.input_names
        if len(inputs) != len(names):
            inputs = _completed(layout, inputs)
        try:
            texts = [
                self.guard(layout, value if type(value := inputs[name]) is str else input_text(value, name))
                for name in names
            ]
        except KeyError:
            return self._question(head, _completed(layout, inputs))
        # Where demos show the format, a reminder would only make the question look unlike theirs.
        pieces = layout.demo if head.shows_format else layout.question
        if pieces is None:
            return self._rendered_question(layout, texts, remind=not head.shows_format)
        if len(texts) == 1:
            return pieces[0] + texts[0] + pieces[1]
        return joined(pieces, texts)

    def _rendered_question(self, layout: Layout, texts: Sequence[str], *, remind: bool) -> str:
        fields = [view.with_value(text) for view, text in zip(layout.inputs, texts, strict=True)]
        return self._user.render(inputs=fields, outputs=layout.views, remind=remind)

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
        inputs = dict(inputs)
        signature: type[Signature] | None = native.asked
        turns: list[dict[str, Any]] = []
        if native.history is not None and (given := inputs.pop(native.history, None)) is not None:
            history: History = rich_value(native.signature.fields[native.history], given)
            turns = self._turns(self._layout(native.asked), history, capabilities)
        if native.calls and native.tools and "tools" in capabilities:
            signature = native.answered
            tools = [tool for name in native.tools for tool in _listed(inputs.pop(name, ()))]
            params = {**params, "tools": [tool_schema(tool) for tool in tools]}
        if signature is None:  # all that is asked for is calls, which need no format
            asked = native.asked.delete(native.tools[0]) if len(native.tools) == 1 else native.asked
            layout = self._layout(asked)
            head = MessageBlock([{"role": "system", "content": instructions}])
        else:
            layout = self._layout(signature)
            head = self._native_head(signature, instructions, demos, capabilities)
        content = self._content(layout, inputs, capabilities, remind=signature is not None and len(head) == 1)
        schema = self.schema(layout) if signature is not None and "json_schema" in capabilities else None
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
            block = MessageBlock(self._head_messages(layout, instructions, shown, capabilities))
            head = _Head(layout, demos, block)
            if isinstance(demos, tuple):
                self._native_heads.put(key, head)
        return head.block

    def _content(
        self, layout: Layout, values: Mapping[str, Any], capabilities: frozenset[str], *, remind: bool
    ) -> str | list[dict[str, Any]]:
        """The content of a question that may hold parts."""
        if any(name not in values for name in layout.input_names) or remind:
            values = _completed(layout, {k: v for k, v in values.items() if remind or k in layout.input_names})
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

    def _text(self, layout: Layout, value: Any, name: str) -> str:
        """An input as text alone."""
        return self.guard(layout, "".join(str(one) for one in segments(value, name, _NONE)))

    def render_answer(self, signature: type[Signature], values: Mapping[str, Any]) -> str:
        """An answer as a model should write it, from which `parse` reads ``values`` back.

        Raises `DefinitionError` naming an output that is missing.
        """
        layout = self._layout(signature)
        missing = [output.name for output in layout.outputs if output.name not in values]
        if missing:
            raise DefinitionError(
                f"the answer lacks the output `{missing[0]}` of `{signature.spec}`; "
                f"it has {', '.join(map(repr, values)) or 'no fields'}."
            )
        return self._answer(layout, values)

    def _answer(self, layout: Layout, values: Mapping[str, Any]) -> str:
        texts = [self.write_value(layout, output, values[output.name]) for output in layout.outputs]
        if layout.answer is not None:
            return joined(layout.answer, texts)
        fields = [view.with_value(text) for view, text in zip(layout.views, texts, strict=True)]
        return self._assistant.render(outputs=fields)

    # -- in --------------------------------------------------------------------------------------------

    def parse(self, signature: type[Signature], text: str) -> dict[str, Any]:
        """The outputs that ``text`` holds, each of its field's type.

        A well-formed answer is read at once; any other is repaired as far as its meaning is plain.

        Raises `ParseError` naming each output that cannot be read, with what could be read in ``partial``.
        """
        layout = self._layout(signature)
        try:
            values = self.read_exact(layout, text)
        except Exception:  # whatever is out of the ordinary, the slow way finds out what it is
            values = None
        if values is None:
            values = self._recovered(layout, text)
        return values

    def read(self, signature: type[Signature], completion: Completion, request: LMRequest) -> dict[str, Any]:
        """The outputs that ``completion``, an answer to ``request``, holds: in its text, as `parse` reads them, and
        beside it: the model's own thoughts for a `Reasoning`, its calls for a `ToolCalls`.

        With calls, what the text does not say of the other outputs is None. Raises `ParseError`.
        """
        layout = self._layout(signature)
        if layout.native is None:
            return self.parse(signature, completion.text)
        native, text = layout.native, completion.text
        beside: dict[str, Any] = {}
        if thoughts := getattr(completion, "reasoning", None):
            beside.update(dict.fromkeys(native.thoughts, Reasoning(thoughts)))
        asked = signature
        calls = getattr(completion, "tool_calls", ())
        if native.calls and (calls or "tools" in request.params):
            beside.update(dict.fromkeys(native.calls, called(calls)))
            if native.answered is None:
                return beside
            asked = native.answered
        try:
            values = self.parse(asked, text) if text.strip() or not calls else {}
        except ParseError as error:
            if any(name not in beside and not calls for name in error.problems):
                raise
            values = error.partial
        values = {**values, **beside}
        return {name: values.get(name) for name in signature.output_fields}

    def stream(self, signature: type[Signature]) -> AnswerStream:
        """A parser for an answer that comes in pieces."""
        return self.stream_class(self, signature, self._layout(signature))

    def _recovered(self, layout: Layout, text: str) -> dict[str, Any]:
        if not isinstance(text, str):
            raise ParseError(
                f"the {self.name} adapter reads text, not {text!r} ({type(text).__name__}): "
                "the model returned no text.",
                adapter=self.name,
            )
        return recovered(layout, text, self)

    # -- what makes an adapter -------------------------------------------------------------------------

    def reading(
        self, signature: type[Signature], request: LMRequest, completion: Completion, *, lm: BaseLM, reasks: int
    ) -> Reading:
        """The steps of reading ``completion``, an answer to ``request``, that may take further questions.

        An answer that cannot be read goes back to ``lm`` with what is wrong with it, up to ``reasks`` times.
        What is repaired locally costs no question. Raises `ParseError` of the last answer.
        """
        while True:
            try:
                return self.read(signature, completion, request)
            except ParseError as error:
                if not reasks:
                    raise
                request = self.reask(request, completion.text, error)
            reasks -= 1
            completion = yield FollowUp(request, lm)

    def reask(self, request: LMRequest, text: str, error: ParseError) -> LMRequest:
        """``request`` with the answer ``text`` to it, and what is wrong with that."""
        problems = [f"{name}: {problem}" for name, problem in error.problems.items()] or [str(error)]
        again = {"role": "user", "content": self._template("reask").render(problems=problems)}
        answered = ({"role": "assistant", "content": text},) if text.strip() else ()
        params = {name: value for name, value in request.params.items() if name != "n"}
        return request.replace(tail=(*request.tail, *answered, again), params=params)

    @abstractmethod
    def read_exact(self, layout: Layout, text: str) -> dict[str, Any] | None:
        """The values of a well-formed answer; None, or any exception, when it is not one."""

    @abstractmethod
    def write_value(self, layout: Layout, output: Output, value: Any) -> str:
        """A value as it stands in an answer."""

    @abstractmethod
    def guard(self, layout: Layout, text: str) -> str:
        """``text`` changed, if need be, so that nothing in it can be taken for the header of a field."""

    @abstractmethod
    def unguard(self, layout: Layout, text: str) -> str:
        """The text that was guarded."""

    def schema(self, layout: Layout) -> dict[str, Any] | None:
        """The JSON schema that a model able to follow one is given, if the format is JSON."""
        return None

    # -- identity --------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Plain data: the name, the text of each template that was replaced, and the options it was made with."""
        templates = {role: own.text for role, own in self._templates.items()}
        return {"name": self.name, "templates": templates, **{k: _plain(v) for k, v in self._options().items()}}

    def _options(self) -> dict[str, Any]:
        """The arguments, beside ``templates``, that make an equal adapter."""
        return {}

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuilt, (type(self), {role: own.text for role, own in self._templates.items()}, self._options()))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Adapter):
            return NotImplemented
        mine, others = (self._templates, self._options()), (other._templates, other._options())
        return type(self) is type(other) and mine == others

    def __hash__(self) -> int:
        return hash((type(self), frozenset(self._templates.items())))

    def __repr__(self) -> str:
        own = ", ".join(f"{role!r}: ..." for role in TEMPLATE_VARIABLES if role in self._templates)
        return f"{type(self).__name__}({f'templates={{{own}}}' if own else ''})"


def _rebuilt(cls: type[Adapter], templates: dict[str, str], options: dict[str, Any]) -> Adapter:
    return cls(templates, **options)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _plain(option: Any) -> Any:
    if isinstance(option, Adapter):
        return option.to_json()
    return getattr(option, "model", option)  # of a model its name, never its settings


def _content_key(
    signature: type[Signature], instructions: str, demos: Sequence[Mapping[str, Any]]
) -> tuple[str, str, tuple[str, ...]] | None:
    try:
        ids = tuple((demo if type(demo) is Example else Example(demo)).id for demo in demos)
    except DataError:  # something without a content of its own: rendering says what
        return None
    return (signature.key, instructions, ids)


def _completed(layout: Layout, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """``inputs`` with the defaults of those not given."""
    extra = [name for name in inputs if name not in layout.signature.input_fields]
    spec = layout.signature.spec
    if extra:
        raise DefinitionError(
            f"`{extra[0]}` is no input of `{spec}`, whose inputs are "
            f"{', '.join(f'`{name}`' for name in layout.input_names) or 'none'}.\n"
            f"  wrong:  inputs={{{extra[0]!r}: ...}}\n"
            f"  right:  leave it out, or add it to the signature"
        )
    complete = {}
    for field in layout.input_fields:
        if field.name in inputs:
            complete[field.name] = inputs[field.name]
        elif not field.required:
            complete[field.name] = field.default
        else:
            raise DefinitionError(
                f"the input `{field.name}` ({field.type_name}) of `{spec}` was not given; given were "
                f"{', '.join(f'`{name}`' for name in inputs) or 'none'}.\n"
                f"  right:  inputs={{{field.name!r}: ...}}"
            )
    return complete


def _check_demo(layout: Layout, demo: Mapping[str, Any], index: int) -> None:
    spec = layout.signature.spec
    if not isinstance(demo, Mapping):
        raise DefinitionError(
            f"demos[{index}] must be an Example or a mapping, not {demo!r} ({type(demo).__name__}).\n"
            "  right:  demos=(Example(question='2 + 2?', answer='4'),)"
        )
    known = ", ".join(map(repr, demo)) or "nothing"
    if not any(name in demo for name in layout.names):
        raise DefinitionError(
            f"demos[{index}] has none of the outputs of `{spec}`, so it shows nothing; it has {known}.\n"
            f"  right:  an Example with {', '.join(f'{output.name}=...' for output in layout.outputs)}"
        )
    if layout.input_names and not any(name in demo for name in layout.input_names):
        raise DefinitionError(
            f"demos[{index}] has none of the inputs of `{spec}`, so it answers no question; it has {known}.\n"
            f"  right:  an Example with {', '.join(f'{name}=...' for name in layout.input_names)}"
        )
