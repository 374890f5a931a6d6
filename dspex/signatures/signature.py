"""Signatures: what goes into a call to a model and what must come out, with types.

A signature is a class, written as one or as a string::

    class Extract(Signature):
        \"""Extract the parts of a US address.\"""

        text: str = InputField(desc="one line, as people write it")
        city: str = OutputField()
        zip: str | None = OutputField(pattern=r"\\d{5}")

    Signature("text -> city, zip: str | None", "Extract the parts of a US address.")

Signatures never change: each edit (`with_instructions`, `append`, ...) gives another one. Their fields are no
attributes of the class, so a field may be called ``fields``, ``append`` or ``instructions``.
"""

from __future__ import annotations

import copyreg
import inspect
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from dspex.errors import DefinitionError, StateError
from dspex.signatures.annotations import resolve_annotation
from dspex.signatures.checks import ClassBody, check_body, checked_field
from dspex.signatures.fields import Field, FieldSpec
from dspex.signatures.inputs import InputCheck, input_checks
from dspex.signatures.making import (
    default_instructions,
    made_annotation,
    made_field,
    written_instructions,
)
from dspex.signatures.parser import parse_signature
from dspex.signatures.scope import Scope
from dspex.signatures.stored import field_from_json, field_to_json, signature_key
from dspex.variables.codec import Json

__all__ = ["Signature", "SignatureMeta", "ensure_signature", "make_signature"]

_VERSION = 1


class SignatureMeta(type):
    """What signature classes can do; see `Signature`."""

    __dspex_inputs__: dict[str, Field]
    __dspex_outputs__: dict[str, Field]
    __dspex_fields__: dict[str, Field]
    __dspex_written__: str | None
    __dspex_instructions__: str
    __dspex_key__: str | None
    __dspex_hash__: int | None
    __dspex_checks__: tuple[tuple[str, InputCheck], ...] | None

    @classmethod
    def __prepare__(cls, name: str, bases: tuple[type, ...], /, **keywords: Any) -> ClassBody:
        return ClassBody()

    def __new__(
        meta, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, abstract: bool = False
    ) -> SignatureMeta:
        specs = {key: value for key, value in namespace.items() if isinstance(value, FieldSpec)}
        body = {key: value for key, value in namespace.items() if key not in specs}
        cls = super().__new__(meta, name, bases, body)
        annotations = inspect.get_annotations(cls)
        if bases:
            check_body(name, namespace, annotations, taken=_TAKEN)
        fields: dict[str, Field] = {}
        for base in reversed(cls.__mro__[1:]):
            if isinstance(base, SignatureMeta):
                fields.update(base.__dspex_fields__)
        scope = Scope(namespace)
        for key, spec in specs.items():
            annotation = resolve_annotation(annotations.get(key, str), scope, name=key, owner=name)
            fields[key] = checked_field(Field.make(key, annotation, spec))
        written = inspect.cleandoc(body.get("__doc__") or "").strip() or None
        if written is None:
            parents = (base for base in cls.__mro__[1:] if isinstance(base, SignatureMeta))
            written = next((base.__dspex_written__ for base in parents if base.__dspex_written__), None)
        _fill(cls, fields.values(), written if bases else None)
        if bases and not abstract and not cls.__dspex_outputs__:
            raise DefinitionError(
                f"the signature {name} has no outputs, so there is nothing to ask a model for."
                f"\nWrong:  class {name}(Signature): ...  # inputs only"
                f"\nRight:  class {name}(Signature):"
                f"\n            question: str = InputField()"
                f"\n            answer: str = OutputField()"
                f"\n        class {name}(Signature, abstract=True): ...  # a base that others add outputs to"
            )
        return cls

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **keywords: Any) -> None:
        super().__init__(name, bases, namespace)

    @property
    def instructions(cls) -> str:
        """What the model is told to do: the docstring, or made from the names of the fields."""
        return cls.__dspex_instructions__

    @property
    def input_fields(cls) -> Mapping[str, Field]:
        """The inputs by name, in order."""
        return cls.__dspex_inputs__

    @property
    def output_fields(cls) -> Mapping[str, Field]:
        """The outputs by name, in order."""
        return cls.__dspex_outputs__

    @property
    def fields(cls) -> Mapping[str, Field]:
        """The inputs, then the outputs, by name."""
        return cls.__dspex_fields__

    @property
    def input_checks(cls) -> tuple[tuple[str, InputCheck], ...]:
        """The inputs that do not take just any value, each with what tells what is wrong with one; made once."""
        checks = cls.__dspex_checks__
        if checks is None:
            checks = cls.__dspex_checks__ = input_checks(cls.input_fields)
        return checks

    @property
    def key(cls) -> str:
        """A short text that is the same for signatures that render alike, in each process; made once."""
        key = cls.__dspex_key__
        if key is None:
            key = cls.__dspex_key__ = signature_key(cls.instructions, cls.fields.values())
        return key

    @property
    def spec(cls) -> str:
        """The fields as a string signature: ``"question, k: int -> answer: bool"``."""
        return " -> ".join(
            ", ".join(
                field.name if field.annotation is str else f"{field.name}: {field.type_name}"
                for field in fields.values()
            )
            for fields in (cls.input_fields, cls.output_fields)
        ).strip()

    def with_instructions(cls, instructions: str) -> type[Signature]:
        """The same fields with other instructions; ``""`` goes back to the ones made from the fields."""
        return _build(cls.__name__, cls.fields.values(), written_instructions(instructions))

    def append(cls, name: str, field: Any, type_: Any = None) -> type[Signature]:
        """With one more field at the end of the inputs or of the outputs, whichever ``field`` is.

        ``field`` is ``InputField(...)`` or ``OutputField(...)``, ``type_`` a type or its text, by default
        ``str``. Raises `DefinitionError` when there is a field of that name already.

        >>> from dspex.signatures import OutputField
        >>> Signature("question -> answer").append("sure", OutputField(ge=0, le=1), float).spec
        'question -> answer, sure: float'
        """
        return cls.insert(-1, name, field, type_)

    def prepend(cls, name: str, field: Any, type_: Any = None) -> type[Signature]:
        """With one more field at the front of the inputs or of the outputs.

        >>> from dspex.signatures import OutputField
        >>> Signature("question -> answer").prepend("reasoning", OutputField()).spec
        'question -> reasoning, answer'
        """
        return cls.insert(0, name, field, type_)

    def insert(cls, index: int, name: str, field: Any, type_: Any = None) -> type[Signature]:
        """With one more field at ``index`` of the inputs or of the outputs; negative counts from the end.

        >>> from dspex.signatures import InputField
        >>> Signature("a, c -> d").insert(1, "b", InputField(), "list[int]").spec
        'a, b: list[int], c -> d'
        """
        if isinstance(index, bool) or not isinstance(index, int):
            raise DefinitionError(
                f"the index of {name!r} is a whole number, not {index!r} ({type(index).__name__}); write "
                f".insert(0, {name!r}, ...)."
            )
        made = made_field(name, field, type_)
        if name in cls.fields:
            raise DefinitionError(
                f"{cls.__name__} already has a field {name!r}: {cls.fields[name]!r}. Write "
                f".with_updated_fields({name!r}, ...) to change it, or .delete({name!r}) first."
            )
        siblings = list((cls.input_fields if made.is_input else cls.output_fields).values())
        place = index if index >= 0 else len(siblings) + 1 + index
        if not 0 <= place <= len(siblings):
            kind = "inputs" if made.is_input else "outputs"
            raise DefinitionError(
                f"{cls.__name__} has {len(siblings)} {kind}, so {name!r} cannot go to index {index}; "
                f"write an index from {-len(siblings) - 1} to {len(siblings)}."
            )
        siblings.insert(place, made)
        others = (cls.output_fields if made.is_input else cls.input_fields).values()
        return cls._with(siblings, others)

    def delete(cls, name: str) -> type[Signature]:
        """Without one field; raises `DefinitionError` when there is none of that name.

        >>> Signature("question, context -> answer").delete("context").spec
        'question -> answer'
        """
        cls._require(name, "delete")
        return cls._with(field for field in cls.fields.values() if field.name != name)

    def with_updated_fields(cls, name: str, type_: Any = None, **changes: Any) -> type[Signature]:
        """With another type, ``desc``, ``prefix``, ``default`` or other constraints for one field.

        A constraint given as ``None`` is taken away.

        >>> Signature("question -> score").with_updated_fields("score", type_=float, ge=0, desc="0 to 1")
        <Signature question -> score: float>
        """
        cls._require(name, "with_updated_fields")
        if type_ is not None:
            changes["annotation"] = made_annotation(name, type_)
        return cls._with(field.updated(**changes) if field.name == name else field for field in cls.fields.values())

    def equals(cls, other: object) -> bool:
        """Whether ``other`` is a signature with the same instructions and fields; the same as ``==``."""
        return cls == other

    def to_json(cls) -> dict[str, Json]:
        """The signature as plain data; `from_json` gives an equal one back.

        >>> signature = Signature("text -> tags: list[Literal['new', 'old']]", "Tag the text.")
        >>> Signature.from_json(signature.to_json()) == signature
        True
        """
        return {
            "version": _VERSION,
            "name": cls.__name__,
            "instructions": cls.__dspex_written__,
            "fields": [field_to_json(field) for field in cls.fields.values()],
        }

    def from_json(cls, data: Mapping[str, Any], *, types: Mapping[str, Any] | None = None) -> type[Signature]:
        """The signature that `to_json` wrote.

        The classes of its types are imported by name, or taken from ``types``. Raises `StateError` when one
        of them is gone or has changed, saying how, and when the data is of a version not known here.
        """
        if not isinstance(data, Mapping):
            raise StateError(
                f"the stored signature is {data!r} ({type(data).__name__}); it must be what Signature.to_json() wrote."
            )
        version = data.get("version")
        if version != _VERSION:
            raise StateError(f"the stored signature is of version {version!r}; this dspex reads version {_VERSION}.")
        try:
            fields = [field_from_json(field, types or {}) for field in data["fields"]]
            return _build(data["name"], fields, data["instructions"])
        except (KeyError, TypeError, AttributeError) as error:
            raise StateError(
                f"the stored signature is damaged ({type(error).__name__}: {error}); it must be what "
                f"Signature.to_json() wrote."
            ) from error

    def describe(cls) -> str:
        """The signature over several lines, with all that is known of each field.

        >>> print(Signature("question -> answer: bool", "Is it so?").describe())
        Signature: question -> answer: bool
          Is it so?
          question: str = InputField()
          answer: bool = OutputField()
        """
        lines = [
            f"{cls.__name__}: {cls.spec}",
            *cls.instructions.splitlines(),
            *map(repr, cls.fields.values()),
        ]
        return "\n".join([lines[0], *(f"  {line}".rstrip() for line in lines[1:])])

    def _require(cls, name: str, verb: str) -> None:
        if name not in cls.fields:
            raise DefinitionError(
                f"{cls.__name__}.{verb}({name!r}): there is no such field; "
                f"the fields are {', '.join(map(repr, cls.fields)) or 'none'}."
            )

    def _with(cls, *fields: Iterable[Field]) -> type[Signature]:
        return _build(cls.__name__, [field for group in fields for field in group], cls.__dspex_written__)

    def __eq__(cls, other: object) -> bool:
        if not isinstance(other, SignatureMeta):
            return NotImplemented
        return cls is other or (
            cls.instructions == other.instructions and list(cls.fields.values()) == list(other.fields.values())
        )

    def __hash__(cls) -> int:
        found = cls.__dspex_hash__
        if found is None:
            found = cls.__dspex_hash__ = hash((cls.instructions, tuple(cls.fields.values())))
        return found

    def __repr__(cls) -> str:
        name = "" if cls.__name__ == "Signature" else f"{cls.__name__}: "
        return f"<Signature {name}{cls.spec}>" if cls.fields else f"<class {cls.__name__!r}>"


def _fill(cls: SignatureMeta, fields: Iterable[Field], written: str | None) -> None:
    inputs: dict[str, Field] = {}
    outputs: dict[str, Field] = {}
    for field in fields:
        (inputs if field.is_input else outputs)[field.name] = field
    cls.__dspex_inputs__ = inputs
    cls.__dspex_outputs__ = outputs
    cls.__dspex_fields__ = {**inputs, **outputs}
    cls.__dspex_written__ = written
    cls.__dspex_instructions__ = written or default_instructions(inputs, outputs)
    cls.__dspex_key__ = None
    cls.__dspex_hash__ = None
    cls.__dspex_checks__ = None


_TAKEN = frozenset(name for name in vars(SignatureMeta) if not name.startswith("__"))


class Signature(metaclass=SignatureMeta):
    """What goes into a call to a model and what must come out.

    Subclass it, or call it with a string signature; see the module's docstring. The class itself has
    ``instructions``, ``input_fields``, ``output_fields``, ``fields`` (name to `Field`), ``spec``, ``key`` and
    the edits `with_instructions`, `append`, `prepend`, `insert`, `delete` and `with_updated_fields`.

    Raises `DefinitionError` where the signature is written when it cannot be meant.

    >>> signature = Signature("question, context: list[str] -> answer: Literal['yes', 'no']")
    >>> signature
    <Signature question, context: list[str] -> answer: Literal['yes', 'no']>
    >>> signature.instructions
    'Given the fields `question`, `context`, produce the fields `answer`.'
    >>> from dspex.signatures import InputField, OutputField
    >>> class Judge(Signature):
    ...     \"""Say whether the claim holds.\"""
    ...
    ...     claim: str = InputField(desc="one sentence")
    ...     holds: bool = OutputField()
    >>> Judge, Judge.instructions
    (<Signature Judge: claim -> holds: bool>, 'Say whether the claim holds.')
    """

    def __new__(  # type: ignore[misc]  # calling Signature makes a class, never an instance
        cls,
        spec: str | Mapping[str, Any] | SignatureMeta = "",
        instructions: str = "",
        *,
        name: str = "",
        custom_types: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> type[Signature]:
        if cls is not Signature or fields:
            given = ", ".join(f"{field}=..." for field in fields) or "..."
            owner = cls.__name__ if cls is not Signature else "'question -> answer'"
            raise DefinitionError(
                f"{cls.__name__} is a signature: it says what goes in and out, and is not called itself."
                f"\nWrong:  {cls.__name__}({given})"
                f"\nRight:  Predict({owner})({given})"
            )
        return make_signature(spec, instructions, name=name, custom_types=custom_types)


def make_signature(
    spec: str | Mapping[str, Any] | SignatureMeta,
    instructions: str = "",
    *,
    name: str = "",
    custom_types: Mapping[str, Any] | None = None,
) -> type[Signature]:
    """A signature from a string, from a mapping of names to fields, or from another signature.

    The types in a string are those that its names stand for where it is written; ``custom_types`` come first.
    In a mapping each value is ``InputField(...)``, ``OutputField(...)``, a pair of a type and one of these,
    or a `Field` of another signature.

    >>> from dspex.signatures import InputField, OutputField
    >>> make_signature({"text": InputField(), "topics": (list[str], OutputField(max_length=3))})
    <Signature text -> topics: list[str]>
    """
    written = written_instructions(instructions)
    if isinstance(spec, SignatureMeta):
        return _build(name or spec.__name__, spec.fields.values(), written or spec.__dspex_written__)
    if isinstance(spec, str):
        inputs, outputs = parse_signature(spec, Scope(custom_types or {}))
        made = [
            checked_field(Field.make(field, kind, FieldSpec(is_input=is_input)))
            for group, is_input in ((inputs, True), (outputs, False))
            for field, kind in group
        ]
        return _build(name or "Signature", made, written)
    if isinstance(spec, Mapping):
        made = []
        for field, value in spec.items():
            pair = isinstance(value, tuple) and len(value) == 2
            made.append(made_field(field, value[1], value[0]) if pair else made_field(field, value, None))
        return _build(name or "Signature", made, written)
    raise DefinitionError(
        f"a signature is text or a Signature class, got {spec!r} ({type(spec).__name__})."
        f"\nRight:  Signature('question -> answer: int'), or class QA(Signature): ..."
    )


def ensure_signature(spec: str | Mapping[str, Any] | SignatureMeta, instructions: str = "") -> type[Signature]:
    """``spec`` as a signature that a model can be asked with; ``instructions`` replace its own when given.

    Raises `DefinitionError` when it has no outputs.

    >>> ensure_signature("question -> answer: int").output_fields["answer"].annotation
    <class 'int'>
    """
    if isinstance(spec, SignatureMeta) and not instructions:
        signature: Any = spec
    else:
        signature = make_signature(spec, instructions)
    if not signature.output_fields:
        raise DefinitionError(
            f"{signature.__name__} has no outputs, so there is nothing to ask a model for: "
            f"{signature.spec or 'no fields'!r}."
            f"\nRight:  'question -> answer', or .append('answer', OutputField())"
        )
    return signature  # type: ignore[no-any-return]


def _build(name: str, fields: Iterable[Field], written: str | None) -> type[Signature]:
    # Past the checks of a class statement: the fields are checked already.
    cls = type.__new__(SignatureMeta, name, (Signature,), {"__module__": __name__, "__doc__": written})
    _fill(cls, fields, written)
    return cls  # type: ignore[return-value]


def _reduce(cls: SignatureMeta) -> str | tuple[Any, ...]:
    # A class statement's signature travels by name, like any class; a made one by its parts.
    found: Any = sys.modules.get(cls.__module__)
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is cls:
        return str(cls.__qualname__)
    return (_build, (cls.__name__, tuple(cls.fields.values()), cls.__dspex_written__))


copyreg.pickle(SignatureMeta, _reduce)
