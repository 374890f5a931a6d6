"""Reads ``"context: list[str], question -> answer: Literal['yes', 'no']"``.

The arrow and commas outside brackets and quotes part the fields; each type is then read as a Python
expression of names, attributes, subscripts, ``|`` and constants. Nothing is ever called or evaluated as code,
so a specification out of a file is as harmless as one out of a program.
"""

from __future__ import annotations

import ast
import difflib
import keyword
import typing
from typing import Any, Final

from dspex.errors import DefinitionError
from dspex.signatures.scope import Scope, is_type

__all__ = ["parse_signature", "parse_type"]

_EXAMPLE: Final = "\"context: list[str], question -> answer: Literal['yes', 'no']\""
_OPENING: Final = {"(": ")", "[": "]", "{": "}"}
_NEEDS_ARGUMENTS: Final = {
    "Literal": "Literal['yes', 'no']",
    "Optional": "Optional[int]",
    "Union": "Union[int, str]",
    "Annotated": "Annotated[int, ...]",
}


class _Failure(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


def parse_signature(spec: str, scope: Scope) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """The inputs and the outputs of ``spec`` as (name, type) pairs; a field without a type is text.

    Raises `DefinitionError` that shows ``spec`` with a caret where it stops making sense, and a right one.

    >>> parse_signature("question, k: int -> answer: bool", Scope())
    ([('question', <class 'str'>), ('k', <class 'int'>)], [('answer', <class 'bool'>)])
    """
    text = "".join(" " if character.isspace() else character for character in spec)
    try:
        if not text.strip():
            raise _Failure("it is empty", 0)
        arrows = _find(text, "->")
        if not arrows:
            for wrong in ("=>", "→", ">"):
                if wrong in text:
                    raise _Failure(f"write '->' instead of {wrong!r}", text.index(wrong))
            raise _Failure("it has no '->' between inputs and outputs", len(text.rstrip()))
        if len(arrows) > 1:
            raise _Failure("it has more than one '->'", arrows[1])
        arrow = arrows[0]
        inputs = _fields(text, 0, arrow, "input", scope)
        outputs = _fields(text, arrow + 2, len(text), "output", scope)
        if not outputs:
            raise _Failure("it has no outputs after '->'", len(text.rstrip()))
        seen: set[str] = set()
        for name, _, position in [*inputs, *outputs]:
            if name in seen:
                raise _Failure(f"there are two fields named {name!r}", position)
            seen.add(name)
    except _Failure as failure:
        raise DefinitionError(
            f"the signature does not parse: {failure}\n"
            f"    Wrong:  {text}\n"
            f"            {' ' * failure.position}^\n"
            f"    Right:  {_EXAMPLE}"
        ) from None
    return [(name, kind) for name, kind, _ in inputs], [(name, kind) for name, kind, _ in outputs]


def parse_type(expression: str, scope: Scope, *, name: str = "the type") -> Any:
    """The type that ``expression`` names; raises `DefinitionError` with a caret where it does not.

    >>> parse_type("dict[str, int | None]", Scope())
    dict[str, int | None]
    """
    text = "".join(" " if character.isspace() else character for character in expression)
    try:
        return _type(text, 0, len(text), scope)
    except _Failure as failure:
        raise DefinitionError(
            f"{name} does not parse: {failure}\n"
            f"    Wrong:  {text}\n"
            f"            {' ' * failure.position}^\n"
            f"    Right:  int, list[str], Literal['yes', 'no'], str | None"
        ) from None


def _find(text: str, mark: str, start: int = 0, stop: int | None = None) -> list[int]:
    """Where ``mark`` stands outside brackets and quotes; `_Failure` where those do not pair up."""
    found = []
    open_brackets: list[tuple[str, int]] = []
    stop = len(text) if stop is None else stop
    position = start
    while position < stop:
        character = text[position]
        if character in "'\"":
            end = position + 1
            while end < stop and text[end] != character:
                end += 2 if text[end] == "\\" else 1
            if end >= stop:
                raise _Failure(f"this quote {character} is not closed", position)
            position = end
        elif character in _OPENING:
            open_brackets.append((character, position))
        elif character in _OPENING.values():
            if not open_brackets:
                raise _Failure(f"this {character!r} closes nothing", position)
            opened, where = open_brackets.pop()
            if _OPENING[opened] != character:
                raise _Failure(f"this {character!r} does not close the {opened!r} opened at {where}", position)
        elif not open_brackets and text.startswith(mark, position):
            found.append(position)
            position += len(mark) - 1
        position += 1
    if open_brackets:
        opened, where = open_brackets[-1]
        raise _Failure(f"this {opened!r} is not closed", where)
    return found


def _fields(text: str, start: int, stop: int, kind: str, scope: Scope) -> list[tuple[str, Any, int]]:
    if not text[start:stop].strip():
        return []
    fields = []
    for comma in [*_find(text, ",", start, stop), stop]:
        fields.append(_field(text, start, comma, kind, scope))
        start = comma + 1
    return fields


def _field(text: str, start: int, stop: int, kind: str, scope: Scope) -> tuple[str, Any, int]:
    colons = _find(text, ":", start, stop)
    end = colons[0] if colons else stop
    raw = text[start:end]
    name = raw.strip()
    position = start + len(raw) - len(raw.lstrip())
    if not name:
        if stop < len(text) and text[stop] == ",":
            raise _Failure(f"an {kind} is missing before this comma", stop)
        raise _Failure(f"an {kind} has no name here", min(start, max(len(text.rstrip()) - 1, 0)))
    if not name.isidentifier():
        for offset, character in enumerate(name):
            if not (name[:offset] + character).isidentifier():
                blank = character == " "
                raise _Failure(
                    f"{name!r} is no name"
                    + ("; part fields with commas, and name and type with a colon" if blank else ""),
                    position + offset,
                )
    if keyword.iskeyword(name):
        raise _Failure(f"{name!r} is a word of Python's own; write {name}_ instead", position)
    if not colons:
        return name, str, position
    if not text[end + 1 : stop].strip():
        raise _Failure(f"{name!r} has a colon but no type", end)
    return name, _type(text, end + 1, stop, scope), position


def _type(text: str, start: int, stop: int, scope: Scope) -> Any:
    source = text[start:stop]
    start += len(source) - len(source.lstrip())
    source = source.strip()
    try:
        tree: ast.expr = (
            ast.Name(source, col_offset=0)  # most types are one word
            if source.isidentifier() and not keyword.iskeyword(source)
            else ast.parse(source, mode="eval").body
        )
    except SyntaxError as error:
        offset = min(max((error.offset or 1) - 1, 0), max(len(source) - 1, 0))
        raise _Failure(f"{source!r} is no type", start + offset) from None
    found = _Reader(source, start, scope).read(tree)
    _require_type(found, source, start)
    return found


def _require_type(found: Any, source: str, position: int) -> None:
    for name, example in _NEEDS_ARGUMENTS.items():
        if found is getattr(typing, name):
            raise _Failure(f"{name} needs to know of what; write {example}", position)
    if not is_type(found):
        raise _Failure(f"{source!r} is {found!r} ({type(found).__name__}), not a type", position)


class _Reader:
    """Turns the syntax tree of one type into the type."""

    def __init__(self, source: str, start: int, scope: Scope) -> None:
        self._bytes = source.encode()
        self._start = start
        self._scope = scope

    def read(self, node: ast.expr) -> Any:
        match node:
            case ast.Name(id=name):
                return self._named(name, node)
            case ast.Constant(value=None):
                return None
            case ast.Constant(value=value) if value is Ellipsis:
                return value
            case ast.Constant(value=str(text)):
                # A forward reference, as in list["Address"].
                try:
                    return _type(text, 0, len(text), self._scope)
                except _Failure as failure:
                    raise self._failure(str(failure), node) from None
            case ast.Attribute(value=base, attr=name):
                owner = self._owner(base)
                if not hasattr(owner, name):
                    raise self._failure(f"{ast.unparse(base)} has no {name!r}", node)
                return getattr(owner, name)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return self._union(self._member(left), self._member(right))
            case ast.List(elts=items):
                return [self._member(item) for item in items]
            case ast.Subscript(value=base, slice=inner):
                return self._subscript(node, base, inner)
        raise self._failure(f"{ast.unparse(node)!r} is no type", node)

    def _subscript(self, node: ast.expr, base: ast.expr, inner: ast.expr) -> Any:
        generic = self.read(base)
        items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        if generic is typing.Literal:
            return typing.Literal[tuple(self._literal(item) for item in items)]
        if generic is typing.Annotated:
            raise self._failure("Annotated is for class signatures: write `score: float = OutputField(ge=0)`", node)
        # What is a str itself, such as Code['python'], is told more by a value, not by a type.
        told = isinstance(generic, type) and issubclass(generic, str)
        arguments = tuple(self._literal(item) if told else self._member(item) for item in items)
        try:
            return generic[arguments if isinstance(inner, ast.Tuple) else arguments[0]]
        except (TypeError, KeyError) as error:
            raise self._failure(f"{ast.unparse(node)!r} is no type ({error})", node) from None

    def _member(self, node: ast.expr) -> Any:
        found = self.read(node)
        if found is not Ellipsis and not isinstance(found, list):
            _require_type(found, ast.unparse(node), self._position(node))
        return found

    def _literal(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=value) if value is not Ellipsis and not isinstance(value, float | complex):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
                return -value
            case ast.Attribute():
                return self.read(node)
            case ast.Name(id=name):
                raise self._failure(f"Literal takes values; write {name!r} in quotes", node)
        raise self._failure(f"{ast.unparse(node)!r} is no value for Literal", node)

    def _owner(self, node: ast.expr) -> Any:
        match node:
            case ast.Name(id=name):
                try:
                    return self._scope[name]
                except KeyError:
                    raise self._unknown(name, node) from None
        return self.read(node)

    def _named(self, name: str, node: ast.expr) -> Any:
        try:
            return self._scope.find(name)
        except KeyError:
            raise self._unknown(name, node) from None

    def _unknown(self, name: str, node: ast.expr) -> _Failure:
        close = difflib.get_close_matches(name, self._scope.names(), n=1)
        hint = f"did you mean {close[0]!r}?" if close else "import or define it where the signature is written"
        return self._failure(f"there is no type {name!r} here; {hint}", node)

    def _union(self, left: Any, right: Any) -> Any:
        try:
            return left | right
        except TypeError:
            return typing.Union[left, right]  # noqa: UP007 - for members that know no |

    def _position(self, node: ast.expr) -> int:
        # ast counts bytes, carets count characters.
        return self._start + len(self._bytes[: node.col_offset].decode())

    def _failure(self, message: str, node: ast.expr) -> _Failure:
        return _Failure(message, self._position(node))
