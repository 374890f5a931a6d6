"""What all language models have in common.

`dspex.lm.flow` says what happens around each call; here it is driven, blocking and awaiting, and a model has
its parameters, its identity and its saved form.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from dspex.data.usage import Usage
from dspex.errors import (
    BudgetExceeded,
    DefinitionError,
    LMError,
    LMTimeoutError,
    StateError,
)
from dspex.execution.active import active_run
from dspex.execution.executor import in_thread
from dspex.execution.run import Run
from dspex.lm.cache import Cache, default_cache
from dspex.lm.flow import Pause, flow, seeded
from dspex.lm.keys import Keys
from dspex.lm.options import checked_cache, checked_price, checked_retries, checked_timeout, saved_options
from dspex.lm.secrets import is_secret
from dspex.lm.transcript import Transcript
from dspex.lm.types import LMRequest, LMResponse, Message, canonical, token_bound

__all__ = ["BaseLM"]


class BaseLM(ABC):
    """A language model. To write a backend, subclass it and implement `_send`; `_asend` too if it can await.

    ``model``
        its name, ``"provider/model"``.
    ``params``
        what goes with each request unless the request says otherwise (``temperature``, ``max_tokens``, ...).
    ``cache``
        ``False``, ``True`` for the one that all programs of this user share, or a `dspex.lm.Cache`.
    ``retries``
        how often a call is made again after a timeout, a rate limit, a lost connection or a server error.
    ``timeout``
        seconds for one attempt; ``None`` for no limit. A run's deadline shortens it.
    ``price``
        dollars per million tokens, ``(input, output)``; ``None`` when not known.

    Models are immutable and may be shared by threads and tasks; `copy` gives one with other parameters. They
    pickle (without cached answers and history). Secrets are in no repr, no JSON and no cache.

    >>> from dspex.lm import LMResponse, Completion
    >>> class Shout(BaseLM):
    ...     def _send(self, request, timeout):
    ...         text = request.messages[-1]["content"].upper()
    ...         usage = self.usage(prompt_tokens=1, completion_tokens=1)
    ...         return LMResponse((Completion(text),), usage, self.model)
    >>> Shout("demo/shout")("hello")
    ['HELLO']
    """

    keeps_time: ClassVar[bool] = False
    """Whether `_asend` itself ends with `LMTimeoutError` in time, so that no timer is put around it."""

    _types: ClassVar[dict[str, type[BaseLM]]] = {}

    def __init__(
        self,
        model: str,
        *,
        cache: bool | Cache = False,
        retries: int = 3,
        timeout: float | None = 60.0,
        price: tuple[float, float] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(model, str) or not model:
            raise DefinitionError(
                f'model must be a name such as "openai/gpt-4o-mini", not {model!r} ({type(model).__name__})'
            )
        self.model = model
        self.retries = checked_retries(retries)
        self.timeout = checked_timeout(timeout)
        self.price = checked_price(price)
        given = {name: value for name, value in (params or {}).items() if value is not None}
        self._params = {name: value for name, value in given.items() if not is_secret(name)}
        self._secrets = {name: value for name, value in given.items() if is_secret(name)}
        self._cache_choice = checked_cache(cache)
        self._fresh()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        BaseLM._types[cls.__name__] = cls

    def _fresh(self) -> None:
        # What does not travel to another process.
        self._keys = Keys(self._identify(), self._params)
        self.recent: deque[tuple[LMRequest, LMResponse]] = deque(maxlen=64)
        self._cache: Cache | Literal[False] | None = False  # False: not looked up yet

    # What a backend implements.

    @abstractmethod
    def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
        """One attempt, blocking, within ``timeout`` seconds; raises an `LMError` when there is no answer."""

    async def _asend(self, request: LMRequest, timeout: float | None) -> LMResponse:
        """One attempt, awaiting; by default `_send` in a thread of its own."""
        return await in_thread(self._send, request, timeout)

    def _identify(self) -> dict[str, Any]:
        """What tells its answers apart from those of other models, besides the parameters; plain data."""
        return {"model": self.model}

    def _output_bound(self) -> int | None:
        """The most tokens it ever answers with, when no ``max_tokens`` says so; ``None`` when not known."""
        return None

    def _price_bound(self) -> tuple[float, float] | None:
        """Dollars per million tokens, (input, output), at most."""
        return self.price

    def prepare(self) -> None:  # noqa: B027 - most models have nothing to load
        """Load what the first call would load, so that it takes no longer than the others.

        No call is made, no network is used, and nothing is raised: what is wrong comes out at the call.
        """

    def may_be_billed(self, error: BaseException) -> bool:
        """Whether a call that ended in ``error`` may have to be paid for all the same."""
        return not isinstance(error, LMError) or isinstance(error, LMTimeoutError)

    # Calls.

    def generate(self, request: LMRequest, run: Run | None = None) -> LMResponse:
        """Answer ``request``, counting it in ``run`` (by default the one that is going on here, if any).

        Raises an `LMError`, `DeadlineExceeded` when the run's time is up or it was cancelled,
        `BudgetExceeded` when the call does not fit into the budget, and `StorageError` when the cache
        cannot be read.
        """
        if run is None:
            run = active_run()
        if run is not None and run.seed is not None:
            request = seeded(self, request, run.seed)
        steps = flow(self, request, run)
        try:
            step = next(steps)
            while True:
                answer = None
                try:
                    if not isinstance(step, Pause):
                        answer = self._send(request, step)
                    elif run is not None:
                        run.pause(step.seconds)
                    else:
                        time.sleep(step.seconds)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as stop:
            response: LMResponse = stop.value
            return response

    async def agenerate(self, request: LMRequest, run: Run | None = None) -> LMResponse:
        """`generate`, awaiting; cancelling the task cancels the call."""
        if run is None:
            run = active_run()
        if run is not None and run.seed is not None:
            request = seeded(self, request, run.seed)
        steps = flow(self, request, run)
        try:
            step = next(steps)
            while True:
                answer = None
                try:
                    if isinstance(step, Pause):
                        import asyncio

                        await asyncio.sleep(step.seconds)
                        if run is not None:
                            run.check()
                    elif step is None or self.keeps_time:
                        answer = await self._asend(request, step)
                    else:
                        answer = await self._timed(request, step)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as stop:
            response: LMResponse = stop.value
            return response

    async def _timed(self, request: LMRequest, timeout: float) -> LMResponse:
        import asyncio

        scope = asyncio.timeout(timeout)
        try:
            async with scope:
                return await self._asend(request, timeout)
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise LMTimeoutError(f"{self.model} did not answer in {timeout:.3g} s", model=self.model) from error

    def __call__(
        self,
        prompt: str | None = None,
        *,
        messages: Iterable[Message] | None = None,
        run: Run | None = None,
        **params: Any,
    ) -> list[str]:
        """The texts of its answers to a prompt or to messages.

        >>> from dspex.lm import MockLM
        >>> MockLM(["Paris"])("What is the capital of France?", temperature=0.0)
        ['Paris']
        """
        response = self.generate(LMRequest.of(prompt, messages=messages, **params), run)
        return [completion.text for completion in response.completions]

    async def acall(
        self,
        prompt: str | None = None,
        *,
        messages: Iterable[Message] | None = None,
        run: Run | None = None,
        **params: Any,
    ) -> list[str]:
        """`__call__`, awaiting."""
        response = await self.agenerate(LMRequest.of(prompt, messages=messages, **params), run)
        return [completion.text for completion in response.completions]

    # Parameters, keys and bounds.

    @property
    def capabilities(self) -> frozenset[str]:
        """What it can do: some of ``json_schema``, ``grammar``, ``seed``, ``n``, ``logprobs``, ``stop``."""
        return frozenset()

    @property
    def params(self) -> Mapping[str, Any]:
        """What goes with each request unless the request says otherwise; read only, see `copy`."""
        return MappingProxyType(self._params)

    def effective_params(self, request: LMRequest) -> Mapping[str, Any]:
        """The parameters that hold for ``request``; one that it sets to ``None`` is unset."""
        if not request.params:
            return self._params
        if not self._params and None not in request.params.values():
            return request.params
        merged = {**self._params, **request.params}
        return {name: value for name, value in merged.items() if value is not None}

    @property
    def cache(self) -> Cache | None:
        """Where its answers are kept."""
        if self._cache is False:
            choice = self._cache_choice
            self._cache = default_cache() if choice is True else choice or None
        return self._cache

    def key(self, request: LMRequest) -> str:
        """What ``request`` is cached under: SHA-256 of the model, the parameters and every word of it."""
        return self._keys.key(request)

    def usage(self, *, prompt_tokens: int, completion_tokens: int) -> Usage:
        """The account of one call, priced by ``price``; its cost is unknown when that is ``None``."""
        price = self.price
        cost = None if price is None else (prompt_tokens * price[0] + completion_tokens * price[1]) / 1e6
        return Usage(calls=1, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, cost=cost)

    def estimate(self, request: LMRequest) -> Usage:
        """The most that ``request`` can take; ``cost`` is ``None`` when the price is not known.

        Raises `BudgetExceeded` when nothing bounds the length of the answer.
        """
        params = self.effective_params(request)
        longest = params.get("max_completion_tokens") or params.get("max_tokens") or self._output_bound()
        if longest is None:
            raise BudgetExceeded(
                f"{self.model} may answer at any length, which no budget of tokens or usd can allow; "
                f"write dspex.LM({self.model!r}, max_tokens=1000), or limit calls instead"
            )
        read = request.head.token_bound + token_bound(request.tail) + 64  # 64: what templates put in front
        if request.schema is not None:
            read += len(canonical(request.schema))
        if tools := params.get("tools"):
            read += len(canonical(tools))
        written = int(longest) * int(params.get("n") or 1)
        price = self._price_bound()
        cost = None if price is None else (read * price[0] + written * price[1]) / 1e6
        return Usage(calls=1, prompt_tokens=read, completion_tokens=written, cost=cost)

    # Identity, copies, saving.

    @property
    def history(self) -> list[dict[str, Any]]:
        """Its last calls that were answered, oldest first, 64 at most; each a dict with DSPy's keys.

        These are ``messages``, ``kwargs``, ``response``, ``outputs``, ``usage``, ``cost`` and ``model``.
        """
        return [
            {
                "messages": request.messages,
                "kwargs": {
                    name: value for name, value in self.effective_params(request).items() if not is_secret(name)
                },
                "response": response,
                "outputs": [completion.text for completion in response.completions],
                "usage": response.usage,
                "cost": response.usage.cost,
                "model": response.model,
            }
            for request, response in self.recent
        ]

    def inspect_history(self, n: int = 1) -> Transcript:
        """Its last ``n`` calls as text that a person can read.

        >>> from dspex.lm import MockLM
        >>> lm = MockLM(["Paris"])
        >>> _ = lm("Capital of France?")
        >>> lm.inspect_history()
        [user]
        Capital of France?
        [answer of mock/mock: 1 call, 7 tokens, $0]
        Paris
        """
        return Transcript.of(list(self.recent)[-n:])

    def copy(self, **params: Any) -> BaseLM:
        """The same model with some parameters changed; ``None`` unsets one.

        >>> from dspex.lm import MockLM
        >>> MockLM(["a"], temperature=1.0).copy(temperature=0.0).params["temperature"]
        0.0
        """
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        merged = {**self._params, **self._secrets, **params}
        given = {name: value for name, value in merged.items() if value is not None}
        twin._params = {name: value for name, value in given.items() if not is_secret(name)}
        twin._secrets = {name: value for name, value in given.items() if is_secret(name)}
        twin._fresh()
        return twin

    def to_json(self) -> dict[str, Any]:
        """The model as plain data, without secrets; `from_json` makes it again."""
        return {
            "type": type(self).__name__,
            **self._identify(),
            "params": dict(self._params),
            "retries": self.retries,
            "timeout": self.timeout,
            "price": None if self.price is None else list(self.price),
            "cache": bool(self._cache_choice),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any], **given: Any) -> BaseLM:
        """The model that `to_json` wrote; ``given`` is what no file may decide (secrets, addresses).

        Raises `StateError` when ``data`` describes no model, or one of a type that is not imported.
        """
        kind = data.get("type") if isinstance(data, Mapping) else None
        known = BaseLM._types.get(kind) if isinstance(kind, str) else None
        if known is None:
            raise StateError(
                f"this describes no model: {data!r:.200}; known types are {', '.join(sorted(BaseLM._types))} "
                "(import the module of a custom one first)"
            )
        try:
            return known._from_json(data, **given)
        except (KeyError, TypeError) as error:
            raise StateError(f"this describes no {kind}: {data!r:.200} ({error})") from error

    @classmethod
    def _from_json(cls, data: Mapping[str, Any], **given: Any) -> BaseLM:
        return cls(data["model"], **{**saved_options(data), **given})

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        for name in ("_keys", "recent", "_cache"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._fresh()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BaseLM):
            return NotImplemented
        return type(self) is type(other) and self._keys.identity == other._keys.identity

    def __hash__(self) -> int:
        return hash((type(self), self._keys.identity))

    def __repr__(self) -> str:
        params = "".join(f", {name}={value!r}" for name, value in self._params.items())
        return f"{type(self).__name__}({self.model!r}{params})"
