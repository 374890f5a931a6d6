"""What all language models have in common.

`dspex.lm.flow` says what happens around each call, `dspex.lm.driving` drives it; here a model has its parameters,
its identity and its saved form.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
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
from dspex.lm.driving import adrive, adrive_stream, drive, drive_stream
from dspex.lm.flow import begin, flow, seeded
from dspex.lm.gate import Gate, Places
from dspex.lm.keys import Keys
from dspex.lm.options import (
    checked_cache,
    checked_count,
    checked_deadline,
    checked_fallbacks,
    checked_price,
    checked_retries,
    checked_timeout,
    saved_options,
)
from dspex.lm.sampling import check_params, warn_truncated
from dspex.lm.secrets import public_params
from dspex.lm.streams import Delta, StreamEvent, deltas_of
from dspex.lm.transcript import Transcript, last
from dspex.lm.types import LMRequest, LMResponse, Message, canonical, token_bound

__all__ = ["BaseLM"]


class BaseLM(ABC):
    """A language model. To write a backend, subclass it and implement `_send`; `_asend` too if it can await.

    ``model``
        its name, ``"provider/model"``.
    ``params``
        what goes with each request unless the request says otherwise (``temperature``, ``max_tokens``, ...).
    ``cache``
        ``False``, ``True`` for the one that all programs of this user share, or a `dspex.lm.Cache`; or ``"read"``,
        ``"write"``, ``"refresh"``, ``"replay"``: ``True``, and what calls do with it (`dspex.execution.Settings`
        says what these are; ``dspex.context(cache=...)`` and ``lm(..., cache=...)`` come before).
    ``retries``
        how often a call is made again after a timeout, a rate limit, a lost connection or a server error.
    ``timeout``
        seconds for one attempt; ``None`` for no limit. A run's deadline shortens it.
    ``price``
        dollars per million tokens, ``(input, output)``; ``None`` when not known.
    ``deadline``
        seconds for a whole call: all attempts, all waiting, and the fallbacks; ``None`` for no limit.
    ``fallbacks``
        models to ask, in order, when this one is over its limit (after the retries), fails, is not reached, answers
        too late, is left alone by its circuit breaker, is too small for the prompt, or is not paid for or not open
        to these credentials; not when the request is invalid or its content refused. Both models' calls are counted,
        the response names the one that answered, and its answer is cached as its own, so that this one is asked
        first again.
    ``max_concurrency``
        attempts that are on their way at once, at most, of this model and its copies in this process.
    ``breaker``
        after so many failures of the world in a row the model is left alone for some seconds: calls end in
        `LMCircuitOpenError` (or go to the fallbacks) until a probe is answered; ``None`` for never.

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

    ends_with_run: bool = False
    """Whether `_send` and `_stream` themselves end when the active run is cancelled. Those of others are called on a
    thread of its own where there is a run, which is left to them when it is cancelled."""

    at_once: ClassVar[float] = 0
    """How many calls it would have at once, where that serves it better than the usual number."""

    settles_within: ClassVar[float] = 0.05
    """Seconds between two looks whether a budget has room, at most: what is in flight ends no sooner."""

    ready: bool = True
    """Whether `prepare` has nothing to do."""

    _types: ClassVar[dict[str, type[BaseLM]]] = {}

    def __init__(
        self,
        model: str,
        *,
        cache: bool | str | Cache = False,
        retries: int = 3,
        timeout: float | None = 60.0,
        price: tuple[float, float] | None = None,
        params: Mapping[str, Any] | None = None,
        deadline: float | None = None,
        fallbacks: Iterable[BaseLM] = (),
        max_concurrency: int | None = None,
        breaker: int | None = None,
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
        self._part(given)
        self._cache_choice, self.cache_policy = checked_cache(cache)
        self.deadline = checked_deadline(deadline)
        self.fallbacks = checked_fallbacks(fallbacks)
        self.max_concurrency = checked_count("max_concurrency", max_concurrency)
        self.breaker = checked_count("breaker", breaker)
        self._places = None if self.max_concurrency is None else Places(self.max_concurrency)
        self._fresh()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        BaseLM._types[cls.__name__] = cls

    def _part(self, given: Mapping[str, Any]) -> None:
        check_params(given)
        # What has secrets in it is in both: as it may be shown, and as it is sent.
        self._params = public_params(given)
        self._secrets = {name: value for name, value in given.items() if value is not self._params.get(name)}

    def _fresh(self) -> None:
        # What does not travel to another process.
        self._keys = Keys(self._identify(), self._params)
        self.recent: deque[tuple[LMRequest, LMResponse]] = deque(maxlen=64)
        self._cache: Cache | Literal[False] | None = False  # False: not looked up yet
        # For the models of this process there is nothing to learn, and so no gate unless one is asked for.
        guarded = self.breaker is not None or self._places is not None
        self.gate = Gate(self._account(), places=self._places, threshold=self.breaker) if guarded else None

    def _account(self) -> tuple[str, ...]:
        """What tells its limits apart from those of others; may hold a key, and is kept as a digest."""
        return (self.model, f"in this process, {id(self)}")

    def prepare(self) -> None:
        """Load what the first call would load, so that it takes no longer than the others.

        No call is made and no network is used. Raises what the first call would.
        """
        self.ready = True

    # What a backend implements.

    @abstractmethod
    def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
        """One attempt, blocking, within ``timeout`` seconds; raises an `LMError` when there is no answer."""

    async def _asend(self, request: LMRequest, timeout: float | None) -> LMResponse:
        """One attempt, awaiting; by default `_send` in a thread of its own."""
        return await in_thread(self._send, request, timeout)

    def _stream(self, request: LMRequest, timeout: float | None) -> Generator[Delta | LMResponse, None, None]:
        """One attempt, blocking, piece by piece, the whole response last; by default in one piece."""
        response = self._send(request, timeout)
        yield from deltas_of(response)
        yield response

    async def _astream(self, request: LMRequest, timeout: float | None) -> AsyncGenerator[Delta | LMResponse, None]:
        """One attempt, awaiting, as `_stream`."""
        response = await self._asend(request, timeout)
        for delta in deltas_of(response):
            yield delta
        yield response

    def _late(self, timeout: float | None) -> LMTimeoutError:
        return LMTimeoutError(
            f"{self.model} did not answer in {timeout:.3g} s; give it more time with dspex.LM(..., timeout=...)",
            model=self.model,
        )

    def _identify(self) -> dict[str, Any]:
        """What tells its answers apart from those of other models, besides the parameters; plain data."""
        return {"model": self.model}

    def _output_bound(self) -> int | None:
        """The most tokens it ever answers with, when no ``max_tokens`` says so; ``None`` when not known."""
        return None

    def _price_bound(self) -> tuple[float, float] | None:
        """Dollars per million tokens, (input, output), at most."""
        return self.price

    def may_be_billed(self, error: BaseException) -> bool:
        """Whether a call that ended in ``error`` may have to be paid for all the same."""
        return error.billed if isinstance(error, LMError) else True

    def _asking(self, run: Run | None) -> AbstractContextManager[None]:
        """What a call in another model's stead is made within; here nothing."""
        return nullcontext()

    # Calls.

    def generate(self, request: LMRequest, run: Run | None = None, path: str = "") -> LMResponse:
        """Answer ``request``, counting it in ``run`` (by default the one that is going on here, if any).

        ``path`` is the asking module's, for ledgers of usage.

        Raises an `LMError`, `DeadlineExceeded` when the run's time is up or it was cancelled,
        `BudgetExceeded` when the call does not fit into the budget, and `StorageError` when the cache
        cannot be read.
        """
        if run is None:
            run = active_run()
        if run is not None and run.seed is not None:
            request = seeded(self, request, run.seed)
        begun = begin(self, request, run, path)
        return begun if type(begun) is LMResponse else drive(begun, run)  # type: ignore[arg-type]

    async def agenerate(self, request: LMRequest, run: Run | None = None, path: str = "") -> LMResponse:
        """`generate`, awaiting; cancelling the task cancels the call."""
        if run is None:
            run = active_run()
        if run is not None and run.seed is not None:
            request = seeded(self, request, run.seed)
        begun = begin(self, request, run, path)
        return begun if type(begun) is LMResponse else await adrive(begun, run)  # type: ignore[arg-type]

    def stream(self, request: LMRequest, run: Run | None = None, path: str = "") -> Generator[StreamEvent, None, None]:
        """As `generate`, piece by piece: `Delta` in order, and at the end the `LMResponse`.

        A call that is cut off and made again says so with a `Restart`. An answer from the cache streams too, and a
        streamed answer is cached as any other. Closing the generator cancels the call, which is counted as failed.

        >>> from dspex.lm import MockLM
        >>> *deltas, response = MockLM(["Paris it is"]).stream(LMRequest.of("Capital of France?"))
        >>> [delta.text for delta in deltas], response.text
        (['Paris ', 'it ', 'is'], 'Paris it is')
        """
        if run is None:
            run = active_run()
        if run is not None and run.seed is not None:
            request = seeded(self, request, run.seed)
        return drive_stream(flow(self, request, run, path), run)

    def astream(self, request: LMRequest, run: Run | None = None, path: str = "") -> AsyncGenerator[StreamEvent, None]:
        """`stream`, awaiting."""
        if run is None:
            run = active_run()
        if run is not None and run.seed is not None:
            request = seeded(self, request, run.seed)
        return adrive_stream(flow(self, request, run, path), run)

    def __call__(
        self,
        prompt: str | None = None,
        *,
        messages: Iterable[Message] | None = None,
        run: Run | None = None,
        **params: Any,
    ) -> list[str]:
        """The texts of its answers to a prompt or to messages; a text that ``max_tokens`` cut off is a warning.

        >>> from dspex.lm import MockLM
        >>> MockLM(["Paris"])("What is the capital of France?", temperature=0.0)
        ['Paris']
        """
        # Most calls have no parameters, and to hand on those there are takes a while even then.
        request = (
            LMRequest.of(prompt, messages=messages, **params) if params else LMRequest.of(prompt, messages=messages)
        )
        return self._texts(request, self.generate(request, run))

    async def acall(
        self,
        prompt: str | None = None,
        *,
        messages: Iterable[Message] | None = None,
        run: Run | None = None,
        **params: Any,
    ) -> list[str]:
        """`__call__`, awaiting."""
        request = LMRequest.of(prompt, messages=messages, **params)
        return self._texts(request, await self.agenerate(request, run))

    def _texts(self, request: LMRequest, response: LMResponse) -> list[str]:
        completions = response.completions
        if len(completions) == 1 and completions[0].finish_reason != "length":  # nearly always
            return [completions[0].text]
        if response.truncated:
            warn_truncated(response.model, self.effective_params(request), "lm(..., max_tokens=...)")
        return [completion.text for completion in completions]

    # Parameters, keys and bounds.

    @property
    def capabilities(self) -> frozenset[str]:
        """What it can do, some of ``json_schema``, ``grammar``, ``seed``, ``n``, ``logprobs``, ``stop``, ``tools``,
        ``reasoning``, ``vision``, ``audio``, ``pdf``, ``documents`` (it cites), ``prompt_caching``."""
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

    def explain_key(self, request: LMRequest) -> dict[str, Any]:
        """What the `key` of ``request`` is made of, as plain data: two calls with other keys differ in it.

        ``hashed`` is the very text whose SHA-256 is ``key``. Secrets, ``timeout``, ``retries``, ``fallbacks`` and
        whatever else does not change an answer are no part of it.

        >>> from dspex.lm import MockLM
        >>> explained = MockLM(["Paris"]).explain_key(LMRequest.of("Capital of France?", temperature=0.0))
        >>> explained["params"], explained["messages"]
        ({'temperature': 0.0}, [{'role': 'user', 'content': 'Capital of France?'}])
        """
        return self._keys.explain(request)

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
                "kwargs": public_params(self.effective_params(request)),
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
        return Transcript.of(last(self.recent, n))

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
        twin._part(given)
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
            "cache": self.cache_policy
            if self._cache_choice and self.cache_policy != "on"
            else bool(self._cache_choice),
            "deadline": self.deadline,
            "fallbacks": [other.to_json() for other in self.fallbacks],
            "max_concurrency": self.max_concurrency,
            "breaker": self.breaker,
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
            if "fallbacks" not in given and data.get("fallbacks"):
                given["fallbacks"] = tuple(BaseLM.from_json(one) for one in data["fallbacks"])
            return known._from_json(data, **given)
        except (KeyError, TypeError) as error:
            raise StateError(f"this describes no {kind}: {data!r:.200} ({error})") from error

    @classmethod
    def _from_json(cls, data: Mapping[str, Any], **given: Any) -> BaseLM:
        return cls(data["model"], **{**saved_options(data), **given})

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        for name in ("_keys", "recent", "_cache", "gate", "_places"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._places = None if self.max_concurrency is None else Places(self.max_concurrency)
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
