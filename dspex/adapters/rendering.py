"""The way out, for text: the head of a request rendered once, its tail per call, answers as a model writes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from dspex.adapters.layout import Layout, Output, joined
from dspex.adapters.lru import LRU
from dspex.adapters.native import segments
from dspex.adapters.templating import Template, TemplateField, shipped_template, user_template
from dspex.adapters.values import input_text, output_data, output_text
from dspex.data.example import Example
from dspex.errors import DataError, DefinitionError
from dspex.lm.types import MessageBlock
from dspex.signatures.inputs import InputCheck, input_checks
from dspex.variables.messages import shown

if TYPE_CHECKING:
    from dspex.signatures import Signature

__all__ = ["Head", "Rendering", "completed"]

_NONE: Final[frozenset[str]] = frozenset()


class Head:
    """A rendered head and what it was rendered from, which it keeps alive, so that their ids stay theirs."""

    __slots__ = ("block", "demos", "layout", "shows_format")

    def __init__(self, layout: Layout, demos: Sequence[Any], block: MessageBlock) -> None:
        self.layout = layout
        self.demos = demos
        self.block = block
        self.shows_format = len(block) > 1


class Rendering(ABC):
    """Renders text from an adapter's templates."""

    name: ClassVar[str]

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
        self._heads: LRU[tuple[int, int, str], Head] = LRU(1024)
        self._blocks: LRU[tuple[str, str, tuple[str, ...]], MessageBlock] = LRU(512)

    def _template(self, role: str) -> Template:
        given = self._templates.get(role)
        if given is None and role in self.default_templates:
            given = user_template(self.name, role, self.default_templates[role])
        return given or shipped_template(self.name, role)

    def _head(self, signature: type[Signature], instructions: str, demos: Sequence[Mapping[str, Any]]) -> Head:
        layout = self._layout(signature)
        key = _content_key(signature, instructions, demos)
        block = self._blocks.get(key) if key is not None else None
        if block is None:
            block = MessageBlock(self._head_messages(layout, instructions, demos))
            if key is not None:
                self._blocks.put(key, block)
        head = Head(layout, demos, block)
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
        ask: Callable[[Layout, Mapping[str, Any]], Any] | None = None,
    ) -> list[dict[str, Any]]:
        turns: list[dict[str, Any]] = []
        examples: list[list[TemplateField]] = []
        signature = layout.signature
        # What may be asked may be shown, and what may be shown as an answer is what may be given as one.
        checks = input_checks({**signature.input_fields, **signature.output_fields}) if demos else ()
        for index, demo in enumerate(demos):
            _check_demo(layout, demo, index, checks)
            fields = layout.signature.fields
            if all(name in demo for name in fields):
                asked = self._demo_question(layout, demo) if ask is None else ask(layout, demo)
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

    def _question(self, head: Head, inputs: Mapping[str, Any]) -> str:
        layout = head.layout
        names = layout.input_names
        if len(inputs) != len(names):
            inputs = completed(layout, inputs)
        try:
            texts = [
                self.guard(layout, value if type(value := inputs[name]) is str else input_text(value, name))
                for name in names
            ]
        except KeyError:
            return self._question(head, completed(layout, inputs))
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

    # -- what a format is made of -----------------------------------------------------------------------

    @abstractmethod
    def write_value(self, layout: Layout, output: Output, value: Any) -> str:
        """A value as it stands in an answer."""

    @abstractmethod
    def guard(self, layout: Layout, text: str) -> str:
        """``text`` changed, if need be, so that nothing in it can be taken for the header of a field."""


def _content_key(
    signature: type[Signature], instructions: str, demos: Sequence[Mapping[str, Any]]
) -> tuple[str, str, tuple[str, ...]] | None:
    try:
        ids = tuple((demo if type(demo) is Example else Example(demo)).id for demo in demos)
    except DataError:  # something without a content of its own: rendering says what
        return None
    return (signature.key, instructions, ids)


def completed(layout: Layout, inputs: Mapping[str, Any]) -> dict[str, Any]:
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


def _check_demo(layout: Layout, demo: Mapping[str, Any], index: int, checks: Sequence[tuple[str, InputCheck]]) -> None:
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
    for name, check in checks:
        problem = check(demo[name]) if name in demo else None
        if problem is not None and not _is_read(layout, demo, name, check):
            value = demo[name]
            raise DefinitionError(
                f"demos[{index}].{name} = {shown(value)} does not fit `{spec}`: {problem}.\n"
                f"  right:  a value of its type, or an Example without {name!r}"
            )


def _is_read(layout: Layout, demo: Mapping[str, Any], name: str, check: InputCheck) -> bool:
    # A record that was saved, or a TypedDict, has its fields under their names; it is shown under the keys to write.
    field = layout.signature.output_fields.get(name)
    try:
        return field is not None and check(output_data(field, demo[name])) is None
    except DataError:
        return False
