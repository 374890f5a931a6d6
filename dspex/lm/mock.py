"""A model that answers from a script: for tests, for examples, for trying a program without a provider."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from typing import Any

from dspex.errors import DefinitionError, LMTimeoutError, StateError
from dspex.execution.active import active_run
from dspex.lm.base import BaseLM
from dspex.lm.cache import Cache
from dspex.lm.options import saved_options
from dspex.lm.scripts import Counter, Failures, Script, failure_plan, script_of, signed, written
from dspex.lm.streams import Delta
from dspex.lm.types import Completion, LMRequest, LMResponse, characters

__all__ = ["MockLM"]

_CHARACTERS_PER_TOKEN = 4
_LONGEST_ANSWER = 4096
_WORD = re.compile(r"\s*\S+\s*|\s+")
_CAPABILITIES = frozenset({"grammar", "json_schema", "n", "seed", "stop"})


class MockLM(BaseLM):
    r"""A scripted model, with latency and failures on demand.

    ``script``
        a list of answers, given in order; or a function ``(messages, **params)`` that returns one; or a dict
        of regular expression to answer (or to such a function), where the first that is found in the last
        message answers. An answer is a text, or a dict of fields, which is written the way the adapter asked
        for (``[[ ## field ## ]]`` sections, or JSON when a schema or ``response_format`` is given), or a list
        of these when several completions are asked for.
    ``repeat``
        start a list again when it is used up, which otherwise raises `LMRequestError`.
    ``latency``
        seconds each call takes, or a function that returns them. A call that would take longer than its
        timeout takes the timeout and raises `LMTimeoutError`.
    ``failures``
        which calls raise instead of answering: a list (``None`` where the call succeeds) or a dict by the
        number of the call, from 0; a function of that number; or a share of calls, as ``0.1``, that raise
        `LMServerError`, drawn with ``seed``.
    ``price``
        as for every model; by default it is free.

    `calls` holds the requests that reached it, failed attempts included. It counts a token for each four
    characters, and cuts answers off at ``max_tokens`` (4,096 when not given), as real models do. Safe for
    threads and tasks; it pickles when its functions do.

    >>> lm = MockLM(["Paris", {"answer": "Rome", "sure": True}])
    >>> lm("Capital of France?")
    ['Paris']
    >>> print(lm("Capital of Italy?")[0])
    [[ ## answer ## ]]
    Rome
    <BLANKLINE>
    [[ ## sure ## ]]
    true
    <BLANKLINE>
    [[ ## completed ## ]]
    >>> MockLM({r"capital of (\w+)": "Paris", "": "no idea"})("the capital of France")
    ['Paris']
    >>> MockLM(lambda messages: messages[-1]["content"].upper())("hello")
    ['HELLO']
    """

    keeps_time = True

    calls: list[LMRequest]

    def __init__(
        self,
        script: Script,
        *,
        repeat: bool = False,
        latency: float | Callable[[], float] = 0.0,
        failures: Failures = (),
        seed: int = 0,
        model: str = "mock/mock",
        cache: bool | Cache = False,
        retries: int = 3,
        timeout: float | None = 60.0,
        price: tuple[float, float] | None = (0.0, 0.0),
        capabilities: Iterable[str] | None = None,
        deadline: float | None = None,
        fallbacks: Iterable[BaseLM] = (),
        max_concurrency: int | None = None,
        breaker: int | None = None,
        **params: Any,
    ) -> None:
        self._script = script
        super().__init__(
            model,
            cache=cache,
            retries=retries,
            timeout=timeout,
            price=price,
            params=params,
            deadline=deadline,
            fallbacks=fallbacks,
            max_concurrency=max_concurrency,
            breaker=breaker,
        )
        self._capabilities = _CAPABILITIES if capabilities is None else frozenset(capabilities)
        self._repeat = repeat
        self._latency = _checked_latency(latency)
        self._failures = failures
        self._seed = seed
        self._player = script_of(script, repeat=repeat)
        self.ends_with_run = not _has_functions(script)
        self._failure = failure_plan(failures, seed, model)
        self._numbers = Counter()
        self.calls = []

    @property
    def script(self) -> Script:
        """What it was made with."""
        return self._script

    @property
    def capabilities(self) -> frozenset[str]:
        """Everything, unless it was made with fewer."""
        return self._capabilities

    def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
        number, seconds, late = self._begin(request, timeout)
        if seconds:
            _sleep(seconds)
        return self._end(request, number, late)

    async def _asend(self, request: LMRequest, timeout: float | None) -> LMResponse:
        number, seconds, late = self._begin(request, timeout)
        if seconds:
            import asyncio

            await asyncio.sleep(seconds)
        return self._end(request, number, late)

    def _stream(self, request: LMRequest, timeout: float | None) -> Generator[Delta | LMResponse, None, None]:
        number, seconds, late = self._begin(request, timeout)
        if late:
            _sleep(seconds)
        *pieces, response = self._pieces(request, number, late)
        for piece in pieces:
            _sleep(seconds / len(pieces))
            yield piece
        yield response

    async def _astream(self, request: LMRequest, timeout: float | None) -> AsyncGenerator[Delta | LMResponse, None]:
        import asyncio

        number, seconds, late = self._begin(request, timeout)
        if late:
            await asyncio.sleep(seconds)
        *pieces, response = self._pieces(request, number, late)
        for piece in pieces:
            await asyncio.sleep(seconds / len(pieces))
            yield piece
        yield response

    def _pieces(self, request: LMRequest, number: int, late: bool) -> list[Delta | LMResponse]:
        """Its answer word by word, and then as a whole."""
        response = self._end(request, number, late)
        words = [
            Delta(word, "text", index)
            for index, completion in enumerate(response.completions)
            for word in _WORD.findall(completion.text)
        ]
        return [*words, response]

    def _begin(self, request: LMRequest, timeout: float | None) -> tuple[int, float, bool]:
        self.calls.append(request)
        number = self._numbers.next() if self._failure is not None else 0
        latency = self._latency
        seconds = latency() if callable(latency) else latency
        late = timeout is not None and seconds > timeout
        return number, timeout if late else seconds, late  # type: ignore[return-value]  # late has a timeout

    def _end(self, request: LMRequest, number: int, late: bool) -> LMResponse:
        if late:
            raise LMTimeoutError(f"{self.model} did not answer in time", model=self.model)
        if self._failure is not None and (failure := self._failure(number)) is not None:
            raise failure
        params = self.effective_params(request)
        answer = self._player.answer(request, params)
        longest = params.get("max_tokens", _LONGEST_ANSWER) * _CHARACTERS_PER_TOKEN
        if type(answer) is str and (not params or "n" not in params):
            # The usual case, and the one that benchmarks of everything else measure.
            completions: tuple[Completion, ...] = (_completion(answer, longest),)
            size = len(completions[0].text)
        else:
            as_json = request.schema is not None or "response_format" in params
            several = [answer] if isinstance(answer, (str, Mapping)) else list(answer)
            asked = int(params.get("n") or len(several))
            texts = [written(several[index % len(several)], as_json) for index in range(asked)]
            completions = tuple(_completion(text, longest) for text in texts)
            size = sum(len(completion.text) for completion in completions)
        usage = self.usage(
            prompt_tokens=_tokens(request.head.characters + characters(request.tail)),
            completion_tokens=_tokens(size),
        )
        return LMResponse(completions, usage, self.model)

    def _identify(self) -> dict[str, Any]:
        # So that one script's answers are not found in the cache for another's.
        return {"model": self.model, "script": signed(self._script)}

    def _output_bound(self) -> int:
        return _LONGEST_ANSWER

    def to_json(self) -> dict[str, Any]:
        """As of every model, with the script when it is plain data (a function is left out)."""
        script = None if _has_functions(self._script) else self._script
        if isinstance(script, Mapping):
            script = dict(script)
        return {**super().to_json(), "script": script, "repeat": self._repeat}

    @classmethod
    def _from_json(cls, data: Mapping[str, Any], **given: Any) -> BaseLM:
        script = given.pop("script", data.get("script"))
        if script is None:
            raise StateError(
                f"the script of the MockLM {data.get('model')!r} was a function, which no file holds; "
                "give it again as script="
            )
        options = saved_options(data)
        return cls(script, model=data["model"], **{"repeat": data.get("repeat", False), **options, **given})

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        del state["calls"], state["_failure"]  # the one may be long, the other is made of functions
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.calls = []
        self._failure = failure_plan(self._failures, self._seed, self.model)


def _has_functions(script: Script) -> bool:
    return callable(script) or (isinstance(script, Mapping) and any(map(callable, script.values())))


def _sleep(seconds: float) -> None:
    run = active_run()
    if run is None:
        time.sleep(seconds)
    else:
        run.pause(seconds)


def _completion(text: str, longest: int) -> Completion:
    return Completion(text, "stop") if len(text) <= longest else Completion(text[:longest], "length")


def _tokens(size: int) -> int:
    return -(-size // _CHARACTERS_PER_TOKEN)


def _checked_latency(value: Any) -> float | Callable[[], float]:
    if callable(value):
        return value  # type: ignore[no-any-return]  # what it returns is seen when it is called
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise DefinitionError(
            f"latency must be seconds, 0 or more, or a function that returns them, not {value!r} "
            f"({type(value).__name__}); write for example latency=0.02"
        )
    return float(value)
