"""From a model's answer in pieces to events: what is shown of it, where, and to whom."""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from dspex.adapters.types import bare_type
from dspex.errors import DefinitionError
from dspex.lm import Restart as AnswerRestart
from dspex.modules.events import FieldDelta, Final, Restart, StreamEvent
from dspex.types import Reasoning
from dspex.variables.messages import did_you_mean, shown

if TYPE_CHECKING:
    from dspex.adapters import Adapter, AnswerStream
    from dspex.lm import Delta
    from dspex.modules.module import Module
    from dspex.signatures import Signature

__all__ = ["Audience", "Reader", "Sink", "joined_path"]


class Audience:
    """Which fields of which predictors somebody listens to; ``None`` is all.

    ``paths`` are paths of predictors or of modules that hold some, or globs of either.

    Raises `DefinitionError` for what is no predictor of ``program``, and no output of those that are listened to.
    """

    __slots__ = ("_fields", "_paths")

    def __init__(self, program: Module, paths: Any = None, fields: Any = None) -> None:
        self._paths = None if paths is None else _names("listen", paths, "'answer'")
        self._fields = None if fields is None else frozenset(_names("fields", fields, "'answer'"))
        if self._paths is None and self._fields is None:
            return
        predictors = {joined_path(program._path, path): one for path, one in program.named_predictors()}
        for pattern in self._paths or ():
            if pattern and not any(_matches(path, pattern) for path in predictors):
                hint = did_you_mean(pattern, predictors) or f" It has: {', '.join(map(repr, predictors)) or 'none'}."
                raise DefinitionError(
                    f"listen={pattern!r} is the path of no predictor of the program.{hint}{_instead('listen')}"
                )
        heard = [one.signature.output_fields for path, one in predictors.items() if self.hears(path)]
        outputs = list(dict.fromkeys(name for fields in heard for name in fields))
        for name in self._fields or ():
            if name not in outputs and outputs:
                hint = did_you_mean(name, outputs) or f" They are: {', '.join(map(repr, outputs))}."
                raise DefinitionError(
                    f"fields={name!r} is no output of the predictors that are listened to.{hint}{_instead('fields')}"
                )

    def hears(self, path: str) -> bool:
        """Whether it listens to the predictor at ``path``."""
        return self._paths is None or any(_matches(path, pattern) for pattern in self._paths)

    def wants(self, event: StreamEvent) -> bool:
        """Whether it wants ``event``."""
        if isinstance(event, FieldDelta):
            return (self._fields is None or event.field in self._fields) and self.hears(event.path)
        return not isinstance(event, Restart) or self.hears(event.path)


class Sink:
    """Where a run's events go: to those who listen to it, and to the ``outer`` sink of the run that it is a part of.

    For all threads and tasks of the run; once it is closed, nothing comes through any more.
    """

    __slots__ = ("_audience", "_counts", "_lock", "_open", "_outer", "_put")

    def __init__(self, put: Callable[[StreamEvent], None], audience: Audience, outer: Sink | None = None) -> None:
        self._put = put
        self._audience = audience
        self._outer = outer
        self._open = True
        self._lock = threading.Lock()
        self._counts: dict[str, itertools.count[int]] = defaultdict(itertools.count)

    def emit(self, event: StreamEvent) -> None:
        """Pass ``event`` on."""
        self.tell(event)
        if self._outer is not None:
            self._outer.emit(event)

    def tell(self, event: StreamEvent) -> None:
        """Pass ``event`` on, but not to the outer sink."""
        if self._open and self._audience.wants(event):
            self._put(event)

    def finish(self, result: Any) -> None:
        """The run has returned ``result``, which is no event of the outer run."""
        if self._open:
            self._open = False
            self._put(Final(result))

    def close(self) -> None:
        """Nobody takes anything any more."""
        self._open = False

    def reader(self, path: str, adapter: Adapter, signature: type[Signature]) -> Reader | None:
        """What shows the next call of the predictor at ``path``; ``None`` when nobody listens to that."""
        number = self._number(path)
        return Reader(self, path, number, adapter, signature) if self._hears(path) else None

    def _hears(self, path: str) -> bool:
        return self._audience.hears(path) or (self._outer is not None and self._outer._hears(path))

    def _number(self, path: str) -> int:
        if self._outer is not None:
            return self._outer._number(path)
        with self._lock:
            return next(self._counts[path])


class Reader:
    """Shows one call of a predictor, which may take several answers.

    Whatever the model wrote, the deltas of a field that is text add up to its value in the end: what the whole answer
    says otherwise is shown anew.
    """

    __slots__ = ("_adapter", "_call", "_parser", "_path", "_shown", "_signature", "_sink")

    _parser: AnswerStream

    def __init__(self, sink: Sink, path: str, call: int, adapter: Adapter, signature: type[Signature]) -> None:
        self._sink = sink
        self._path = path
        self._call = call
        self._adapter = adapter
        self._signature = signature
        self._shown: dict[str, list[str]] = {}  # by field, since the last restart

    def begin(self, reason: str = "the answer could not be read, so the model was asked again") -> None:
        """Another answer comes, for ``reason`` if it is not the first."""
        self._void(reason)
        self._parser = self._adapter.stream(self._signature)

    def take(self, event: Delta | AnswerRestart) -> None:
        """A piece of the answer."""
        if isinstance(event, AnswerRestart):
            self.begin(event.reason)
        elif not event.completion:  # the fields of a prediction are those of its first completion
            parser = self._parser
            self._show(parser.feed(event.text) if event.kind == "text" else parser.think(event.text))

    def end(self) -> None:
        """The answer is complete."""
        self._show(self._parser.flush())

    def settle(self, values: Mapping[str, Any]) -> None:
        """What the answer says is ``values``."""
        texts = {name: str(value) for name, value in values.items() if value is not None and self._is_text(name)}
        so_far = {name: "".join(pieces) for name, pieces in self._shown.items()}
        if all(text.startswith(so_far.get(name, "")) for name, text in texts.items()):
            rest = {name: text[len(so_far.get(name, "")) :] for name, text in texts.items()}
        else:
            self._void("the answer was read otherwise than it had been shown")
            rest = {name: text for name in values if (text := texts.get(name, so_far.get(name)))}
        self._show((name, text) for name, text in rest.items() if text)

    def _is_text(self, name: str) -> bool:
        return bare_type(self._signature.output_fields[name].annotation) in (str, Reasoning)

    def _void(self, reason: str) -> None:
        if self._shown:
            self._shown = {}
            self._sink.emit(Restart(self._path, reason, self._call))

    def _show(self, deltas: Iterable[tuple[str, str]]) -> None:
        for field, delta in deltas:
            self._shown.setdefault(field, []).append(delta)
            self._sink.emit(FieldDelta(self._path, field, delta, self._call))


def _names(argument: str, given: Any, example: str) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise DefinitionError(
            f"{argument} of stream must be a name or several, not {shown(given)}.\n"
            f"  right:  program.stream(..., {argument}={example}){_instead(argument)}"
        )
    return names


def _instead(argument: str) -> str:
    return f'\n  right:  program.stream({{"{argument}": ...}})  # when `{argument}` is an input of the program'


def joined_path(*parts: str) -> str:
    """The path of a part from that of the whole and its own there."""
    return ".".join(filter(None, parts))


def _matches(path: str, pattern: str) -> bool:
    """Whether ``pattern`` names ``path``, or a module around it."""
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}.*")
