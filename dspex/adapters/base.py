"""What every adapter is: the way out of `Requesting`, and answers read back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from dspex.adapters.native import called, cites
from dspex.adapters.recovery import recovered
from dspex.adapters.requesting import Requesting
from dspex.adapters.steps import FollowUp, Reading
from dspex.adapters.streaming import AnswerStream, WholeStream
from dspex.adapters.templating import TEMPLATE_VARIABLES
from dspex.errors import ParseError
from dspex.types import Citations, Reasoning

if TYPE_CHECKING:
    from dspex.adapters.layout import Layout
    from dspex.adapters.native import Native
    from dspex.lm import BaseLM, Completion, LMRequest
    from dspex.signatures import Signature

__all__ = ["Adapter"]


class Adapter(Requesting):
    r"""How a signature becomes messages, and an answer the signature's outputs.

    ``templates`` replaces some of the Jinja2 templates that prompts are made of: ``system`` (may use
    ``instructions``, ``inputs``, ``outputs``, ``examples``, ``definitions``), ``user`` (``inputs``, ``outputs``,
    ``remind``), ``assistant`` (``outputs``) and ``reask`` (``problems``); a `Path`, a str that ends in ``.j2``,
    or the text itself. They run in a sandbox, and an undefined name is an error.

    Adapters are immutable, equal when their templates are, and safe to share between threads. To write one,
    give a subclass a ``name``, ``json_first``, ``field_form`` and ``default_templates``, implement
    `read_exact`, `write_value`, `guard` and `unguard`, and make it known with `register_adapter`.

    Raises `DefinitionError` for a template that cannot be read or parsed, naming its line.

    >>> import re
    >>> from xml.sax.saxutils import escape, unescape
    >>> from dspex.signatures import Signature
    >>> fields = "{% for field in FIELDS %}<{{ field.name }}>{{ field.value }}</{{ field.name }}>{% endfor %}"
    >>> class Tags(Adapter):
    ...     name, json_first, field_form = "tags", False, "<{name}>...</{name}>"
    ...     default_templates = {
    ...         "system": "{{ instructions }} Answer in tags: {{ outputs | map(attribute='name') | join(', ') }}.",
    ...         "user": fields.replace("FIELDS", "inputs"),
    ...         "assistant": fields.replace("FIELDS", "outputs"),
    ...     }
    ...
    ...     def read_exact(self, layout, text):
    ...         found = dict(re.findall(r"<(\w+)>(.*?)</\1>", text))
    ...         return {output.name: output.value(unescape(found[output.name])) for output in layout.outputs}
    ...
    ...     def write_value(self, layout, output, value):
    ...         return escape(str(value))
    ...
    ...     def guard(self, layout, text):  # what comes from data is no markup
    ...         return escape(text)
    ...
    ...     def unguard(self, layout, text):
    ...         return unescape(text)
    >>> sums, adapter = Signature("question -> answer: int"), Tags()
    >>> request = adapter.request(sums, instructions="Add.", demos=(), inputs={"question": "1 < 2?"})
    >>> [message["content"] for message in request.messages]
    ['Add. Answer in tags: answer.', '<question>1 &lt; 2?</question>']
    >>> adapter.parse(sums, "<answer>3</answer>"), adapter.parse(sums, "Answer: it is 3.")  # repairs come with it
    ({'answer': 3}, {'answer': 3})
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
        beside it: the model's own thoughts for a `Reasoning`, its calls for `ToolCalls`, its citations for `Citations`.

        With calls, what the text does not say of the other outputs is None. Raises `ParseError`.
        """
        layout = self._layout(signature)
        if layout.native is None:
            return self.parse(signature, completion.text)
        native, text, calls = layout.native, completion.text, completion.tool_calls
        beside = self._beside(native, completion, request)
        asked = native.asking(
            calls=not beside.keys().isdisjoint(native.calls), citing=not beside.keys().isdisjoint(native.cited)
        )
        if asked is None:
            return {name: beside.get(name) for name in signature.output_fields}
        try:
            values = self.parse(asked, text) if text.strip() or not calls else {}
        except ParseError as error:
            if any(name not in beside and not calls for name in error.problems):
                raise
            values = error.partial
        values = {**values, **beside}
        return {name: values.get(name) for name in signature.output_fields}

    def _beside(self, native: Native, completion: Completion, request: LMRequest) -> dict[str, Any]:
        """The outputs that a model gave beside its text. Raises `ParseError`."""
        beside: dict[str, Any] = {}
        if thoughts := completion.reasoning:
            beside.update(dict.fromkeys(native.thoughts, Reasoning(thoughts)))
        if native.calls and (completion.tool_calls or "tools" in request.params):
            try:
                made = called(completion.tool_calls)
            except (ValueError, RecursionError) as error:
                raise _unreadable_calls(native.calls, completion.tool_calls, error, self.name) from error
            beside.update(dict.fromkeys(native.calls, made))
        if native.cited and cites(request):
            beside.update(dict.fromkeys(native.cited, Citations.model_validate(list(completion.citations))))
        return beside

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
    def unguard(self, layout: Layout, text: str) -> str:
        """The text that was guarded."""

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


def _unreadable_calls(
    names: Sequence[str], calls: Sequence[Mapping[str, Any]], error: Exception, adapter: str
) -> ParseError:
    """What to say of calls whose arguments are none."""
    text = "\n".join(f"{call.get('name')}({call.get('arguments')})" for call in calls)
    problem = f"the arguments of a call must be a JSON object: {text:.200}"
    return ParseError(
        f"the {adapter} adapter could not read the calls that the model made.\n  {problem}\n  ({error})",
        text=text,
        problems=dict.fromkeys(names, problem),
        adapter=adapter,
    )


def _rebuilt(cls: type[Adapter], templates: dict[str, str], options: dict[str, Any]) -> Adapter:
    return cls(templates, **options)


def _plain(option: Any) -> Any:
    if isinstance(option, Adapter):
        return option.to_json()
    return getattr(option, "model", option)  # of a model its name, never its settings
