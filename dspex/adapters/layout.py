"""What an adapter has to know of a signature, worked out once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from dspex.adapters.definitions import type_definitions
from dspex.adapters.describe import json_shape, value_hint
from dspex.adapters.fitting import read_value
from dspex.adapters.lines import normal_key
from dspex.adapters.native import native_of
from dspex.adapters.schema import OutputSchema
from dspex.adapters.sections import FieldLines, Headers, header
from dspex.adapters.tags import FieldTags
from dspex.adapters.templating import Template, TemplateField, stood_in
from dspex.adapters.values import quick_reader

if TYPE_CHECKING:
    from dspex.signatures import Field, Signature

__all__ = ["Layout", "Output", "joined"]


class Output:
    """An output of a signature and how it is read.

    ``read`` takes the text of a well-formed section (and is None when the text itself is the value),
    ``check`` takes what JSON held; both raise when anything is out of the ordinary.
    """

    __slots__ = ("check", "field", "header", "name", "placeholder", "read", "view")

    def __init__(self, field: Field) -> None:
        adapter = field.adapter
        validator: Any = adapter.validator
        plain = field.annotation is str and not field.constraints
        self.field = field
        self.name = field.name
        self.header = header(field.name)
        self.read: Callable[[str], Any] | None = None if plain else quick_reader(field.annotation, adapter)
        self.check: Callable[[Any], Any] = validator.validate_python
        self.view = _view(field)
        self.placeholder = self.view.placeholder

    def value(self, text: str) -> Any:
        """The value of a section; raises `Unreadable` when it has none."""
        if self.read is None:
            return text
        try:
            return self.read(text)
        except Exception:  # not well-formed, or refused by a validator of the user's own: `read_value` is the judge
            return read_value(self.field.annotation, self.field.adapter, text)


class Layout:
    """The inputs and outputs of one signature as an adapter and its templates use them."""

    __slots__ = (
        "_headers", "_lines", "_schema", "_tags", "answer", "demo", "input_fields", "input_names", "inputs", "names",
        "native", "outputs", "question", "signature", "views",
    )  # fmt: skip

    def __init__(self, signature: type[Signature], *, user: Template, assistant: Template) -> None:
        self.signature = signature
        self.input_fields = tuple(signature.input_fields.values())
        self.input_names = tuple(signature.input_fields)
        self.inputs = tuple(_view(field) for field in self.input_fields)
        self.outputs = tuple(Output(field) for field in signature.output_fields.values())
        self.names = frozenset(signature.output_fields)
        self.native = native_of(signature)
        self.views = tuple(output.view for output in self.outputs)
        # A template that always writes each value once is split there; one of the user's own is rendered.
        self.question: tuple[str, ...] | None = None
        self.demo: tuple[str, ...] | None = None
        self.answer: tuple[str, ...] | None = None
        if not user.own:
            fields, outputs = stood_in(self.inputs), self.views
            self.question = user.pieces(len(fields), inputs=fields, outputs=outputs, remind=True)
            self.demo = user.pieces(len(fields), inputs=fields, outputs=outputs, remind=False)
        if not assistant.own:
            self.answer = assistant.pieces(len(self.views), outputs=stood_in(self.views))
        self._headers: Headers | None = None
        self._lines: FieldLines | None = None
        self._tags: FieldTags | None = None
        self._schema: dict[str, Any] | None = None

    @property
    def headers(self) -> Headers:
        """Finds the sections of this signature; compiled for the first answer that is not well-formed."""
        if self._headers is None:
            fields = self.signature.fields.values()
            titles = [(field.name, field.prefix.strip().rstrip(":")) for field in fields if field.prefix.strip()]
            self._headers = Headers([output.name for output in self.outputs], self.input_names, titles=titles)
        return self._headers

    @property
    def lines(self) -> FieldLines:
        """Finds the lines that begin with the name of a field."""
        if self._lines is None:
            self._lines = FieldLines(self.signature.fields)
        return self._lines

    @property
    def tags(self) -> FieldTags:
        """Finds the tags of the fields."""
        if self._tags is None:
            self._tags = FieldTags(self.signature.fields)
        return self._tags

    @property
    def definitions(self) -> str:
        """The types of the outputs as TypeScript-like definitions."""
        return type_definitions(output.field for output in self.outputs)

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of an object that holds the outputs. Not to change."""
        if self._schema is None:
            found, definitions = TypeAdapter.json_schemas(
                [(output.name, "validation", output.field.adapter) for output in self.outputs],
                schema_generator=OutputSchema,
            )
            properties = {}
            for output in self.outputs:
                properties[output.name] = dict(found[output.name, "validation"])
                if output.field.desc:
                    properties[output.name].setdefault("description", output.field.desc)
            self._schema = {
                "type": "object",
                "properties": properties,
                "required": [output.name for output in self.outputs],
                "additionalProperties": False,
                **({"$defs": definitions["$defs"]} if "$defs" in definitions else {}),
            }
        return self._schema

    def output_named(self, key: str) -> str | None:
        """The output that ``key`` is a spelling of, whatever its case, spaces and punctuation."""
        if key in self.names:
            return key
        plain = normal_key(key)
        return next((output.name for output in self.outputs if normal_key(output.name) == plain), None)


def joined(pieces: Sequence[str], values: Sequence[str]) -> str:
    """``values`` with ``pieces`` around them.

    >>> joined(["Q: ", ". A: ", ""], ["1 + 1", "2"])
    'Q: 1 + 1. A: 2'
    """
    parts = [pieces[0]]
    for value, piece in zip(values, pieces[1:], strict=True):
        parts.append(value)
        parts.append(piece)
    return "".join(parts)


def _view(field: Field) -> TemplateField:
    hint = "; ".join(part for part in (value_hint(field.annotation), field.constraint_text) if part)
    said = "; ".join(part for part in (field.desc, hint) if part)
    return TemplateField(
        field.name,
        type=field.type_name,
        hint=hint,
        constraints=field.constraint_text,
        desc=field.desc,
        title=field.prefix.strip().rstrip(":"),
        placeholder=f"{{{field.name}: {said}}}" if said else f"{{{field.name}}}",
        shape=json_shape(field.annotation),
    )
