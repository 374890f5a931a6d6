"""One input or output of a signature: its name, its type and what a good value looks like."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import attrs

from dspex.data.plain import plain_data
from dspex.errors import DefinitionError
from dspex.signatures.types import is_plain_type, normalised, split_annotated, type_text, union_members

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["MISSING", "Field", "FieldSpec", "InputField", "OutputField"]


class _Missing:
    """No default was given; ``None`` is a value like any other."""

    def __repr__(self) -> str:
        return "MISSING"

    def __reduce__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = _Missing()

_CONSTRAINTS: Final = {
    "ge": "at least {}",
    "gt": "more than {}",
    "le": "at most {}",
    "lt": "less than {}",
    "multiple_of": "a multiple of {}",
    "min_length": "at least {} long",
    "max_length": "at most {} long",
    "pattern": "matching {}",
    "max_digits": "at most {} digits",
    "decimal_places": "at most {} decimal places",
    "allow_inf_nan": "",
    "strict": "",
}
_RIGHT_CONSTRAINTS: Final = "count: int = OutputField(ge=0), or tags: list[str] = OutputField(max_length=5)"
_RIGHT_TYPES: Final = "str, int, list[str], Literal['a', 'b'], an Enum, a dataclass or a pydantic model"
_OF_NUMBERS: Final = frozenset({"ge", "gt", "le", "lt", "multiple_of"})
_OF_LENGTHS: Final = frozenset({"min_length", "max_length"})
_NUMERIC: Final = _OF_NUMBERS | {"allow_inf_nan", "max_digits", "decimal_places", "strict"}
_TAKES: Final[dict[Any, frozenset[str]]] = {
    bool: frozenset({"strict"}),
    int: _NUMERIC,
    float: _NUMERIC,
    str: _OF_LENGTHS | {"pattern", "strict"},
    bytes: _OF_LENGTHS | {"strict"},
    **dict.fromkeys((list, dict, set, frozenset, tuple), _OF_LENGTHS | {"strict"}),
}
_INSTEAD: Final = {
    "description": "desc='...'",
    "default_factory": "default=...",
    "format": "a type (pydantic reads and writes the value)",
    "parser": "a type (pydantic reads the value)",
}


@attrs.frozen(kw_only=True)
class FieldSpec:
    """What `InputField` and `OutputField` say about a field before it has a name and a type."""

    is_input: bool
    desc: str = ""
    prefix: str = ""
    default: Any = MISSING
    constraints: Mapping[str, Any] = attrs.field(factory=dict)

    def __repr__(self) -> str:
        return f"{'InputField' if self.is_input else 'OutputField'}({_arguments(self)})"


def InputField(  # noqa: N802 - DSPy's name; it stands where a value of the field's type is expected
    *, desc: str = "", prefix: str = "", default: Any = MISSING, **constraints: Any
) -> Any:
    """An input of a class signature: ``context: list[str] = InputField(desc="...", max_length=5)``.

    ``desc`` says what the field is, ``prefix`` is how it is titled in prompts (by default made from its
    name), ``default`` stands in for an input that is not given. ``constraints`` are pydantic's: ``ge``,
    ``gt``, ``le``, ``lt``, ``multiple_of``, ``min_length``, ``max_length``, ``pattern``, ``max_digits``,
    ``decimal_places``, ``allow_inf_nan``, ``strict``. Raises `DefinitionError` for anything else.

    >>> InputField(desc="what was asked", max_length=200)
    InputField(desc='what was asked', max_length=200)
    """
    return _spec("InputField", True, desc, prefix, default, constraints)


def OutputField(  # noqa: N802 - DSPy's name; it stands where a value of the field's type is expected
    *, desc: str = "", prefix: str = "", **constraints: Any
) -> Any:
    """An output of a class signature: ``score: float = OutputField(ge=0, le=1)``; see `InputField`.

    >>> OutputField(ge=0, le=1)
    OutputField(ge=0, le=1)
    """
    default = constraints.pop("default", MISSING)
    return _spec("OutputField", False, desc, prefix, default, constraints)


def _spec(kind: str, is_input: bool, desc: str, prefix: str, default: Any, constraints: dict[str, Any]) -> FieldSpec:
    if default is not MISSING and not is_input:
        raise DefinitionError(
            f"OutputField(default={default!r}): an output comes from the model, so no default."
            "\nWrong:  note: str = OutputField(default='')"
            "\nRight:  note: str | None = OutputField()"
        )
    for argument, text in (("desc", desc), ("prefix", prefix)):
        if not isinstance(text, str):
            raise DefinitionError(
                f"{kind}({argument}={text!r}): {argument} is text, got {type(text).__name__}; "
                f"write {kind}({argument}='...')."
            )
    for name in constraints:
        if name not in _CONSTRAINTS:
            known = ("desc", "prefix", "default", *_CONSTRAINTS) if is_input else ("desc", "prefix", *_CONSTRAINTS)
            close = difflib.get_close_matches(name, known, n=1)
            instead = _INSTEAD.get(name) or (f"{close[0]}=..." if close else "one of " + ", ".join(known))
            raise DefinitionError(f"{kind}({name}={constraints[name]!r}): {kind} takes no {name!r}; write {instead}")
    return FieldSpec(is_input=is_input, desc=desc, prefix=prefix, default=default, constraints=constraints)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Field:
    """A named, typed input or output of a signature. Immutable.

    ``annotation`` is its type, ``type_name`` that type as a person writes it, ``constraints`` the pydantic
    keywords it was given and ``constraint_text`` the same in words. ``adapter`` validates and serialises
    values (a `pydantic.TypeAdapter`) and ``json_schema`` describes them; both are made when first asked for.

    >>> field = Field.make("score", float, OutputField(desc="how sure", ge=0, le=1))
    >>> field
    score: float = OutputField(desc='how sure', ge=0, le=1)
    >>> field.adapter.validate_python("0.5"), field.constraint_text
    (0.5, 'at least 0, at most 1')
    """

    name: str
    annotation: Any
    is_input: bool
    desc: str = ""
    prefix: str = ""
    default: Any = MISSING
    constraints: Mapping[str, Any] = attrs.field(factory=dict)
    _adapter: TypeAdapter[Any] | None = attrs.field(default=None, init=False)
    _schema: dict[str, Any] | None = attrs.field(default=None, init=False)
    _type_name: str = attrs.field(default="", init=False)

    @classmethod
    def make(cls, name: str, annotation: Any, spec: FieldSpec) -> Field:
        """The field that ``spec`` describes; raises `DefinitionError` when its parts do not fit."""
        annotation, beside, constraints = split_annotated(normalised(annotation))
        if constraints:
            spec = attrs.evolve(spec, constraints={**constraints, **spec.constraints})
        field = cls(
            name=name,
            annotation=annotation,
            is_input=spec.is_input,
            desc=spec.desc or beside,
            prefix=spec.prefix or _title(name) + ":",
            default=spec.default,
            constraints=spec.constraints,
        )
        if spec.constraints or spec.default is not MISSING or not is_plain_type(annotation):
            field._check()
        return field

    def updated(self, **changes: Any) -> Field:
        """The same field with other ``annotation``, ``desc``, ``prefix``, ``default`` or constraints.

        A constraint that becomes ``None`` is gone.
        """
        annotation = changes.pop("annotation", self.annotation)
        desc = changes.pop("desc", self.desc)
        prefix = changes.pop("prefix", self.prefix)
        default = changes.pop("default", self.default)
        constraints = {name: value for name, value in {**self.constraints, **changes}.items() if value is not None}
        kind = "InputField" if self.is_input else "OutputField"
        spec = _spec(kind, self.is_input, desc, prefix, default, constraints)
        return Field.make(self.name, annotation, spec)

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is MISSING

    @property
    def type_name(self) -> str:
        """The type as a person writes it: ``list[str]``, ``Literal['yes', 'no']``."""
        if not self._type_name:
            object.__setattr__(self, "_type_name", type_text(self.annotation))
        return self._type_name

    @property
    def constraint_text(self) -> str:
        """The constraints in words, empty when there are none."""
        return ", ".join(
            _CONSTRAINTS[name].format(value) for name, value in self.constraints.items() if _CONSTRAINTS[name]
        )

    @property
    def adapter(self) -> TypeAdapter[Any]:
        """Validates and serialises this field's values; made once, when first asked for."""
        adapter = self._adapter
        if adapter is None:
            adapter = self._make_adapter()
            object.__setattr__(self, "_adapter", adapter)
        return adapter

    @property
    def json_schema(self) -> dict[str, Any]:
        """The JSON schema of the values (``{}`` for an input that is no plain data); not to be changed."""
        schema = self._schema
        if schema is None:
            import pydantic

            try:
                schema = self.adapter.json_schema()
            except pydantic.errors.PydanticInvalidForJsonSchema:
                schema = {}
            object.__setattr__(self, "_schema", schema)
        return schema

    def _make_adapter(self) -> TypeAdapter[Any]:
        import pydantic

        annotation = self.annotation
        if self.constraints:
            annotation = Annotated[annotation, pydantic.Field(**self.constraints)]
        try:
            return pydantic.TypeAdapter(annotation)
        except pydantic.errors.PydanticSchemaGenerationError as error:
            if self.is_input:
                return pydantic.TypeAdapter(annotation, config={"arbitrary_types_allowed": True})
            raise DefinitionError(
                f"output {self.name!r}: a {self.type_name} cannot be read from a model's answer."
                f"\nWrong:  {self.name}: {self.type_name}"
                f"\nRight:  {_RIGHT_TYPES}"
            ) from error

    def _check(self) -> None:
        import pydantic

        kind = "input" if self.is_input else "output"
        for member in union_members(self.annotation):
            # pydantic itself would notice when it validates the first value, not before.
            takes = _TAKES.get(member, frozenset(self.constraints))
            unfit = [name for name in self.constraints if name not in takes]
            if unfit:
                fit = [name for name in _CONSTRAINTS if name in takes]
                raise DefinitionError(
                    f"{kind} {self.name!r}: {unfit[0]}={self.constraints[unfit[0]]!r} says nothing about a "
                    f"{member.__name__}, which takes {', '.join(fit)}."
                    f"\nWrong:  {self!r}"
                    f"\nRight:  {_RIGHT_CONSTRAINTS}"
                )
        try:
            adapter = self.adapter
        except DefinitionError:
            raise
        except pydantic.errors.PydanticUndefinedAnnotation:
            # A model that refers to a class defined further down: it is complete by the time it is used.
            return
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise DefinitionError(
                f"{kind} {self.name!r} cannot be {self.type_name}"
                f"{' with ' + _arguments(self) if self.constraints else ''}: {reason}"
                f"\nWrong:  {self!r}"
                f"\nRight:  {_RIGHT_CONSTRAINTS if self.constraints else _RIGHT_TYPES}"
            ) from error
        if self.default is not MISSING:
            try:
                adapter.validate_python(self.default)
            except pydantic.ValidationError as error:
                raise DefinitionError(
                    f"input {self.name!r}: the default {self.default!r} ({type(self.default).__name__}) is "
                    f"no valid {self.type_name}: {error.errors()[0]['msg']}."
                    f"\nWrong:  {self!r}"
                    f"\nRight:  a default of type {self.type_name}, "
                    f"or {self.name}: {self.type_name} | None = InputField(default=None)"
                ) from error

    def _identity(self) -> tuple[Any, ...]:
        return (
            self.name,
            self.is_input,
            self.annotation,
            self.type_name,  # Literal['a', 'b'] == Literal['b', 'a'], but they do not read alike
            self.desc,
            self.prefix,
            dict(self.constraints),
            self.default,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Field):
            return NotImplemented
        return self is other or self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash((self.name, self.is_input, self.desc))

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the adapter: it is made again where it is needed.
        state = {
            "name": self.name,
            "annotation": self.annotation,
            "is_input": self.is_input,
            "desc": self.desc,
            "prefix": self.prefix,
            "default": self.default,
            "constraints": dict(self.constraints),
        }
        return (_rebuild, (state,))

    def __repr__(self) -> str:
        kind = "InputField" if self.is_input else "OutputField"
        return f"{self.name}: {self.type_name} = {kind}({_arguments(self)})"


def _arguments(spec: FieldSpec | Field) -> str:
    parts = {}
    if spec.desc:
        parts["desc"] = spec.desc
    if spec.prefix and not (isinstance(spec, Field) and spec.prefix == _title(spec.name) + ":"):
        parts["prefix"] = spec.prefix
    if spec.default is not MISSING:
        parts["default"] = spec.default
    parts.update(spec.constraints)
    return ", ".join(f"{name}={value!r}" for name, value in parts.items())


def _title(name: str) -> str:
    """``search_query`` and ``searchQuery`` are both titled "Search Query"."""
    words: list[str] = []
    for piece in name.split("_"):
        start = 0
        for index in range(1, len(piece)):
            before, here = piece[index - 1], piece[index]
            if (here.isupper() and before.islower()) or (here.isdigit() != before.isdigit()):
                words.append(piece[start:index])
                start = index
        words.append(piece[start:])
    return " ".join(word if word.isupper() else word.capitalize() for word in words if word)


def plain_constraints(field: Field) -> dict[str, Any]:
    """The constraints as JSON: a compiled pattern becomes its text."""
    return {
        name: plain_data(getattr(value, "pattern", value), name=f"{field.name}'s {name}")
        for name, value in field.constraints.items()
    }


def _rebuild(state: dict[str, Any]) -> Field:
    return Field(**state)
