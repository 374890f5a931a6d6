"""The ways to script a `MockLM`: what it answers, and which of its calls fail."""

from __future__ import annotations

import copy
import inspect
import itertools
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from dspex.errors import DefinitionError, LMError, LMRequestError, LMServerError
from dspex.lm.types import LMRequest, canonical, digest
from dspex.variables.messages import counted

__all__ = ["Answer", "Failure", "Failures", "Script", "failure_plan", "script_of", "signed", "written"]

Fields: TypeAlias = Mapping[str, Any]
Answer: TypeAlias = str | Fields | Sequence[str | Fields]
Script: TypeAlias = Sequence[Answer] | Mapping[str, Answer | Callable[..., Answer]] | Callable[..., Answer]
Failure: TypeAlias = BaseException | type[BaseException] | None
Failures: TypeAlias = float | Sequence[Failure] | Mapping[int, Failure] | Callable[[int], Failure]

_RIGHT = """
  right: MockLM(["first answer", {"field": "second answer"}])
  right: MockLM(lambda messages, **params: "an answer")
  right: MockLM({"pattern in the last message": "an answer"})"""


class Player(Protocol):
    """Gives the answer to a request."""

    def answer(self, request: LMRequest, params: Mapping[str, Any]) -> Answer: ...


def script_of(script: Script, *, repeat: bool) -> Player:
    """The player of ``script``; raises `DefinitionError` when it is none."""
    if callable(script):
        return _Function(script)
    if isinstance(script, Mapping):
        return _Patterns(script)
    if isinstance(script, Sequence) and not isinstance(script, (str, bytes)):
        return _Listed(script, repeat)
    raise DefinitionError(
        f"script must be a list of answers, a function, or a dict of patterns, not {script!r} "
        f"({type(script).__name__}).{_RIGHT}"
    )


class Counter:
    """``next()`` gives 0, 1, 2, ... to many threads; it pickles."""

    __slots__ = ("_count", "next")

    next: Callable[[], int]

    def __init__(self, first: int = 0) -> None:
        # One call into C, which no other thread interrupts: a lock would cost as much as the rest of a call.
        self._count = itertools.count(first)
        self.next = self._count.__next__

    @property
    def reached(self) -> int:
        """The number that comes next."""
        # The only way to look without taking it; newer versions of Python pickle no iterators.
        return int(repr(self._count).removeprefix("count(").removesuffix(")"))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Counter, (self.reached,))


class _Listed:
    def __init__(self, answers: Sequence[Answer], repeat: bool) -> None:
        if not answers:
            raise DefinitionError(f"script is an empty list: a MockLM needs something to answer.{_RIGHT}")
        for number, answer in enumerate(answers):
            _check(answer, f"answer {number} of the script")
        self._answers = list(answers)
        self._repeat = repeat
        self._counter = Counter()

    def answer(self, request: LMRequest, params: Mapping[str, Any]) -> Answer:
        number = self._counter.next()
        answers = self._answers
        if number >= len(answers):
            if not self._repeat:
                raise LMRequestError(
                    f"the MockLM's script has {counted(len(answers), 'answer')}, and this asks for number "
                    f"{number + 1}: add answers, or write MockLM([...], repeat=True) to start again from the first"
                )
            number %= len(answers)
        return answers[number]


class _Function:
    def __init__(self, function: Callable[..., Answer]) -> None:
        if inspect.iscoroutinefunction(function):
            raise DefinitionError(
                f"script must be an ordinary function, not the async function {function.__name__!r}; "
                "MockLM answers async calls with it as well"
            )
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):  # a built-in without a signature
            parameters = ()  # type: ignore[assignment]  # empty either way
        self._function = function
        self._everything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        self._names = frozenset(parameter.name for parameter in list(parameters)[1:])

    def answer(self, request: LMRequest, params: Mapping[str, Any]) -> Answer:
        names = self._names
        keywords = dict(params) if self._everything else {}
        if names:
            extra = {"rollout_id": request.rollout_id, "schema": request.schema, "grammar": request.grammar}
            keywords.update((name, value) for name, value in (extra | dict(params)).items() if name in names)
        answer = self._function(request.messages, **keywords)
        _check(answer, f"what the script function {getattr(self._function, '__name__', '')!r} returned")
        return answer


class _Patterns:
    def __init__(self, patterns: Mapping[str, Answer | Callable[..., Answer]]) -> None:
        if not patterns:
            raise DefinitionError(f"script is an empty dict: a MockLM needs something to answer.{_RIGHT}")
        self._rules: list[tuple[re.Pattern[str], Answer | _Function]] = []
        for pattern, answer in patterns.items():
            try:
                compiled = re.compile(pattern, re.DOTALL)
            except (re.error, TypeError) as error:
                raise DefinitionError(
                    f"script has {pattern!r} ({type(pattern).__name__}) as a pattern, which is no regular "
                    f"expression: {error}; put re.escape(...) around text that is meant as it is"
                ) from error
            if callable(answer):
                self._rules.append((compiled, _Function(answer)))
            else:
                _check(answer, f"the answer to {pattern!r}")
                self._rules.append((compiled, answer))

    def answer(self, request: LMRequest, params: Mapping[str, Any]) -> Answer:
        text = _last_text(request)
        for pattern, answer in self._rules:
            if pattern.search(text):
                return answer.answer(request, params) if isinstance(answer, _Function) else answer
        known = ", ".join(repr(pattern.pattern) for pattern, _ in self._rules)
        raise LMRequestError(
            f"no pattern of the MockLM's script ({known}) is found in {text!r:.200}; "
            'add one for it, or "" for whatever is left'
        )


def signed(script: Any) -> str:
    """A short name for a script: the same for the same data, and for functions of the same name."""
    return digest(canonical(_unwritten(script)))[:16]


def _unwritten(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _unwritten(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_unwritten(part) for part in value]
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)


def written(answer: str | Fields, as_json: bool) -> str:
    """An answer as the text a model would give: fields as JSON, or in the sections of the chat format.

    >>> written({"answer": "Paris"}, as_json=True)
    '{"answer": "Paris"}'
    """
    if isinstance(answer, str):
        return answer
    if as_json:
        return json.dumps(answer, ensure_ascii=False, default=_plain)
    sections = [
        f"[[ ## {name} ## ]]\n"
        + (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_plain))
        for name, value in answer.items()
    ]
    return "\n\n".join([*sections, "[[ ## completed ## ]]"])


def failure_plan(failures: Failures, seed: int, model: str) -> Callable[[int], BaseException | None] | None:
    """By number of the call, the error it ends in; ``None`` when no call fails."""
    pick: Callable[[int], Failure]
    if callable(failures):
        pick = failures
    elif isinstance(failures, Mapping):
        pick = failures.get
    elif isinstance(failures, (list, tuple)):
        if not failures:
            return None
        listed = list(failures)

        def pick(number: int) -> Failure:
            return listed[number] if number < len(listed) else None

    elif isinstance(failures, (int, float)) and not isinstance(failures, bool) and 0 <= failures <= 1:
        share = failures

        def pick(number: int) -> Failure:
            # By number, so that threads do not change which calls fail how often.
            return LMServerError if random.Random(f"{seed} {number}").random() < share else None

    else:
        raise DefinitionError(
            f"failures must be a list or dict of exceptions, a function of the call's number, or a share "
            f"between 0 and 1, not {failures!r} ({type(failures).__name__}); "
            "write for example failures=[dspex.LMRateLimitError, None]"
        )

    def plan(number: int) -> BaseException | None:
        failure = pick(number)
        if failure is None:
            return None
        if isinstance(failure, BaseException):
            return copy.copy(failure)  # its traceback is not shared between threads
        message = f"scripted failure of call {number}"
        return failure(message, model=model) if issubclass(failure, LMError) else failure(message)

    return plan


def _check(answer: Any, what: str) -> None:
    if isinstance(answer, (str, Mapping)):
        return
    if isinstance(answer, (list, tuple)) and answer and all(isinstance(part, (str, Mapping)) for part in answer):
        return
    raise DefinitionError(
        f"{what} must be a text or a dict of fields (or a list of these, for several completions), "
        f"not {answer!r} ({type(answer).__name__}).{_RIGHT}"
    )


def _last_text(request: LMRequest) -> str:
    message = request.tail[-1] if request.tail else request.head[-1] if len(request.head) else {}
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, (list, tuple)) else ()
    return "\n".join(part["text"] for part in parts if isinstance(part, Mapping) and "text" in part)


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    return getattr(value, "value", None) or str(value)  # enum members, then whatever prints
