"""What a function takes, read from its signature, type hints and docstring."""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import attrs

from dspex.errors import DefinitionError
from dspex.signatures.types import type_text

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["Parameter", "described", "parameters_of", "return_type"]

_MISSING: Final = inspect.Parameter.empty
_SECTION = re.compile(r"^(Args|Arguments|Parameters|Params):\s*$")
_ARGUMENT = re.compile(r"^\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")
_OTHER_SECTION = re.compile(r"^[A-Z][\w ]*:\s*$|^>>>")


@attrs.frozen(kw_only=True)
class Parameter:
    """One argument of a tool. ``adapter`` checks values and turns them into the type."""

    name: str
    annotation: Any
    required: bool
    default: Any
    positional_only: bool
    adapter: TypeAdapter[Any] = attrs.field(repr=False)
    schema: dict[str, Any] = attrs.field(repr=False)

    def read(self, value: Any) -> Any:
        """``value`` as the parameter's type; raises pydantic's `ValidationError` when it is not one.

        A model often writes a list or an object as text; that text is read as JSON.
        """
        from pydantic import ValidationError

        try:
            return self.adapter.validate_python(value)
        except ValidationError:
            if not isinstance(value, str):
                raise
            try:
                return self.adapter.validate_json(value)
            except ValidationError:
                pass
            raise

    def __str__(self) -> str:
        """As in a function's head: ``k: int = 3``."""
        text = self.name if self.annotation is Any else f"{self.name}: {type_text(self.annotation)}"
        if self.required:
            return text
        return f"{text}{'=' if self.annotation is Any else ' = '}{_spelled(self.default)}"


def parameters_of(function: Callable[..., Any], tool: str) -> tuple[dict[str, Parameter], bool]:
    """The parameters that a model can give, by name, and whether any others are taken (``**keywords``).

    A parameter of a type that cannot be written as JSON is left to its default.

    Raises `DefinitionError` naming the parameter whose type is unknown, or needed and not to be written.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise DefinitionError(
            f"the arguments of the tool {tool!r} cannot be read from {function!r}: {error}.\n"
            f"  right:  def {tool if tool.isidentifier() else 'tool'}(query: str) -> str: ..."
        ) from error
    hints = _type_hints(function, tool)
    found: dict[str, Parameter] = {}
    open_ended = False
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            open_ended = True
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            made = _parameter(parameter, hints.get(name, Any), tool)
            if made is not None:
                found[name] = made
    return found, open_ended


def return_type(function: Callable[..., Any], tool: str) -> str:
    """What the function returns, as written; empty when it does not say."""
    hints = _type_hints(function, tool)
    return type_text(hints["return"]) if "return" in hints else ""


def described(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The first paragraph of the function's docstring, and what its ``Args:`` say of each argument."""
    while hasattr(function, "func"):  # functools.partial, whose own docstring is that of partial
        function = function.func
    if not inspect.isroutine(function) and not inspect.isclass(function):
        # An object that is called: what its `__call__` says, else what its class does.
        function = type(function).__call__ if type(function).__call__.__doc__ else type(function)
    text = inspect.getdoc(function) or ""
    summary = " ".join(text.split("\n\n", maxsplit=1)[0].split())
    notes: dict[str, str] = {}
    inside, last = False, None
    for line in text.splitlines():
        stripped = line.strip()
        if _SECTION.match(stripped):
            inside = True
        elif inside and (_OTHER_SECTION.match(stripped) or (stripped and not line[:1].isspace())):
            inside = False
        elif inside and (match := _ARGUMENT.match(stripped)):
            last = match[1]
            notes[last] = match[2]
        elif inside and last is not None and stripped:
            notes[last] = f"{notes[last]} {stripped}".strip()
    return ("" if _SECTION.match(summary) else summary), notes


def _type_hints(function: Callable[..., Any], tool: str) -> dict[str, Any]:
    target: Any = function
    while hasattr(target, "func"):
        target = target.func
    if not inspect.isroutine(target):
        target = target.__init__ if inspect.isclass(target) else type(target).__call__
    try:
        return typing.get_type_hints(target, include_extras=True)
    except NameError as error:
        raise DefinitionError(
            f"the tool {tool!r} has a type hint that cannot be resolved: {error}.\n"
            "  right:  import the type at the top of its module, or define it before the tool is made"
        ) from error
    except TypeError:  # a builtin or an extension's function, which has none
        return {}


def _parameter(parameter: inspect.Parameter, annotation: Any, tool: str) -> Parameter | None:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    required = parameter.default is _MISSING
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        schema = adapter.json_schema()
    except PydanticUserError as error:
        if not required:
            return None
        named = type_text(annotation)
        raise DefinitionError(
            f"the tool {tool!r} needs {parameter.name!r}, a {named}, which a model cannot write as JSON.\n"
            f"  wrong:  Tool({tool})\n"
            f"  right:  Tool(functools.partial({tool}, {parameter.name}=...)), or a default for "
            f"{parameter.name!r}"
        ) from error
    return Parameter(
        name=parameter.name,
        annotation=annotation,
        required=required,
        default=None if required else parameter.default,
        positional_only=parameter.kind is inspect.Parameter.POSITIONAL_ONLY,
        adapter=adapter,
        schema=schema,
    )


def _spelled(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = "..."
    return {"null": "None", "true": "True", "false": "False"}.get(text, text)
