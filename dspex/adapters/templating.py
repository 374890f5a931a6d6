"""Prompt templates: Jinja2, sandboxed, each of them replaceable.

An adapter has four: ``system`` (instructions and format), ``user`` (the inputs of one question), ``assistant``
(the answer to it, in demos) and ``reask`` (what was wrong with an answer), which all adapters share. What users,
data and models wrote reaches a template as values, which are never read as templates.

The shipped templates are rendered once for each signature, with stand-ins for the values, and split there;
after that a prompt is joined from its pieces. The template stays the only place that says what it looks like.
A template of the user's own may do anything with a value, so it is rendered for each prompt.
"""

from __future__ import annotations

import functools
import re
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dspex.errors import DefinitionError

if TYPE_CHECKING:
    import jinja2

__all__ = ["TEMPLATE_VARIABLES", "Template", "TemplateField", "shipped_template", "user_template"]

TEMPLATE_VARIABLES: Final = {
    "system": ("instructions", "inputs", "outputs", "examples", "definitions"),
    "user": ("inputs", "outputs", "remind"),
    "assistant": ("outputs",),
    "reask": ("problems",),
}
"""The templates of an adapter and what each of them may use."""

_FOLDER: Final = Path(__file__).with_name("templates")
_SUFFIXES: Final = (".j2", ".jinja", ".jinja2")
_STAND_IN = re.compile("\ue000(\\d+)\ue001")


class TemplateField:
    """A field as templates see it: ``{{ field.name }}``, ``{{ field.value }}`` and so on.

    ``type`` is the type as written in Python, ``hint`` the same in words with the ``constraints``; ``desc``
    is the description, ``title`` the name as a title, ``placeholder`` what stands for a value in a format,
    ``shape`` a sketch of its JSON.
    """

    __slots__ = ("constraints", "desc", "hint", "name", "placeholder", "shape", "title", "type", "value")

    def __init__(
        self,
        name: str,
        *,
        type: str = "",
        hint: str = "",
        constraints: str = "",
        desc: str = "",
        title: str = "",
        placeholder: str = "",
        shape: str = "",
        value: str = "",
    ) -> None:
        self.name = name
        self.type = type
        self.hint = hint
        self.constraints = constraints
        self.desc = desc
        self.title = title
        self.placeholder = placeholder
        self.shape = shape
        self.value = value

    def with_value(self, value: str) -> TemplateField:
        """The same field with a value."""
        return TemplateField(
            self.name, type=self.type, hint=self.hint, constraints=self.constraints, desc=self.desc,
            title=self.title, placeholder=self.placeholder, shape=self.shape, value=value,
        )  # fmt: skip


class Template:
    """A template and where it comes from, compiled when first rendered.

    ``text`` is its source, ``own`` whether a user gave it.
    """

    __slots__ = ("_compiled", "label", "own", "role", "text")

    def __init__(self, role: str, text: str, *, label: str, own: bool) -> None:
        self.role = role
        self.text = text
        self.label = label
        self.own = own
        self._compiled: jinja2.Template | None = None

    def compile(self) -> jinja2.Template:
        """Raises `DefinitionError` naming the template and the line of a syntax error."""
        if self._compiled is None:
            from jinja2 import TemplateSyntaxError

            try:
                self._compiled = _environment().from_string(self.text)
            except TemplateSyntaxError as error:
                raise DefinitionError(
                    f"{self.label}, line {error.lineno}: {error.message}.\n"
                    f"  the line:  {_line(self.text, error.lineno)}\n"
                    "  right:     {% for field in inputs %}{{ field.name }}: {{ field.value }}{% endfor %}"
                ) from error
        return self._compiled

    def render(self, **variables: Any) -> str:
        """The prompt. Raises `DefinitionError` naming the template, the line and what it may use."""
        compiled = self.compile()
        try:
            return compiled.render(variables)
        except Exception as error:  # a template is code: whatever it raises is its author's to know
            lines = [
                frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<template>"
            ]
            number = lines[-1] or 0 if lines else 0
            place = f", line {number}" if number else ""
            known = ", ".join(TEMPLATE_VARIABLES[self.role])
            fields = ", ".join(name for name in TemplateField.__slots__ if name != "value")
            raise DefinitionError(
                f"{self.label}{place}: {error} ({type(error).__name__}).\n"
                f"  the line:    {_line(self.text, number)}\n"
                f"  it may use:  {known}; of a field: {fields} and, where there is one, value"
            ) from error

    def pieces(self, count: int, **variables: Any) -> tuple[str, ...]:
        """What stands around the ``count`` values, for a template that writes each once and in order.

        ``variables`` must give them the values of `stand_in`.
        """
        parts = _STAND_IN.split(self.render(**variables))
        if [int(index) for index in parts[1::2]] != list(range(count)):
            raise DefinitionError(f"{self.label} must write the value of each field once, in order.")
        return tuple(parts[::2])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Template):
            return NotImplemented
        return (self.role, self.text) == (other.role, other.text)

    def __hash__(self) -> int:
        return hash((self.role, self.text))


def stand_in(index: int) -> str:
    """What `Template.pieces` splits at."""
    return f"\ue000{index}\ue001"


def stood_in(fields: Sequence[TemplateField]) -> list[TemplateField]:
    """``fields`` with stand-ins for their values."""
    return [field.with_value(stand_in(index)) for index, field in enumerate(fields)]


@functools.lru_cache(maxsize=64)
def shipped_template(adapter: str, role: str) -> Template:
    """The template that comes with dspex: ``templates/<adapter>_<role>.j2``, or ``reask.j2``.

    Raises `DefinitionError` if there is none.
    """
    name = "reask.j2" if role == "reask" else f"{adapter}_{role}.j2"
    if not (_FOLDER / name).is_file():
        raise DefinitionError(
            f"the adapter {adapter!r} has no template {role!r}.\n"
            f"  right:  default_templates = {{{role!r}: '...', ...}} in the body of its class"
        )
    return Template(role, (_FOLDER / name).read_text("utf-8"), label=f"the template {name}", own=False)


def user_template(adapter: str, role: str, given: str | Path) -> Template:
    """A template of the user's own: its text, or the path of its file (a `Path`, or a str that ends in .j2).

    Raises `DefinitionError` for a role that adapters do not have, a missing file, or a syntax error.
    """
    if role not in TEMPLATE_VARIABLES:
        raise DefinitionError(
            f"there is no template {role!r}; an adapter has {', '.join(map(repr, TEMPLATE_VARIABLES))}.\n"
            "  right:  ChatAdapter(templates={'system': 'prompts/system.j2'})"
        )
    if not isinstance(given, str | Path):
        raise DefinitionError(
            f"the template {role!r} must be its text or a path, not {given!r} ({type(given).__name__}).\n"
            f"  right:  ChatAdapter(templates={{{role!r}: pathlib.Path('prompts/{role}.j2')}})"
        )
    label = f"the template {role!r} of the {adapter} adapter"
    text = str(given)
    if isinstance(given, Path) or (text.endswith(_SUFFIXES) and "\n" not in text and "{" not in text):
        label += f" ({text})"
        try:
            text = Path(given).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DefinitionError(
                f"{label} cannot be read: {error}.\n"
                "  right:  the path of a template file, or the text of the template itself"
            ) from error
    template = Template(role, text, label=label, own=True)
    template.compile()
    return template


@functools.cache
def _environment() -> jinja2.Environment:
    from jinja2 import FileSystemLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # Prompts are text, not HTML: nothing is escaped. The loader lets a user's template include shipped ones.
    return ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader(_FOLDER),
    )


def _line(text: str, number: int) -> str:
    lines = text.splitlines()
    return lines[number - 1].strip() if 0 < number <= len(lines) else "(unknown)"
