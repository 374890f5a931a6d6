"""`LM`: any provider's model, through litellm."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal, cast

from dspex.errors import DefinitionError, LMAuthError, LMError, LMRequestError, StateError
from dspex.lm import provider, provider_errors
from dspex.lm.base import BaseLM
from dspex.lm.cache import Cache
from dspex.lm.composing import compose, needs_marks
from dspex.lm.options import checked_capabilities, saved_options
from dspex.lm.secrets import public_url, secret_values, unsafe_params, url_secrets
from dspex.lm.streams import Delta
from dspex.lm.types import LMRequest, LMResponse

if TYPE_CHECKING:
    from dspex.lm.reading import Assembly

__all__ = ["LM"]

_LONGEST_CONNECT = 10.0
_LOCAL = "local/"
_MODEL_TYPES = ("chat", "text", "responses")


class LM(BaseLM):
    """A provider's model, named ``"provider/model"`` as litellm names it; litellm loads on the first call.

    ``LM("local/NAME")`` is an embedded model that runs in this process (extra ``local``), ``LM("openai/NAME",
    api_base=URL)`` a server that speaks OpenAI's protocol. Besides what every model takes (see `BaseLM`):

    ``temperature``, ``max_tokens`` and any further keyword
        go to the provider with each request.
    ``model_type``
        which of the provider's interfaces is used: ``"chat"``, ``"text"`` (completion of a plain prompt) or
        ``"responses"`` (OpenAI's newer one).
    ``api_key``
        the key; by default the provider's environment variable holds it. It is in no repr, file or cache.
    ``api_base``
        the address of the endpoint.
    ``cache``
        on by default: equal requests with equal ``rollout_id`` are paid for once.
    ``price``
        dollars per million tokens, ``(input, output)``, for models whose price litellm does not know.
    ``capabilities``
        what the model can do, where litellm does not know (see `BaseLM.capabilities`).
    ``prompt_caching``
        mark what requests have in common (the system message and the demos) for the provider's prompt cache, where
        a provider needs marks (Anthropic); the others see for themselves that prompts begin alike.
    ``fallbacks``
        models or their names.

    Raises `DefinitionError` for a name without a provider. Calls raise `LMAuthError` without a key,
    `LMRequestError` for an unknown provider or model, `LMConnectionError` when nothing answers.

    All models of one name, address and key in this process share what is learned of the provider's rate limits,
    from its headers and its refusals, and the circuit breaker.

    >>> LM("openai/gpt-4o-mini", temperature=0.5, api_key="sk-not-shown")
    LM('openai/gpt-4o-mini', temperature=0.5)
    """

    def __new__(cls, model: str = "", **keywords: Any) -> LM:
        if cls is LM and isinstance(model, str) and model.startswith(_LOCAL):
            from dspex.lm.local import LocalLM

            # Not one by inheritance, as it has nothing of litellm's; one for `isinstance` all the same.
            LM.register(LocalLM)
            return cast(LM, LocalLM(model.removeprefix(_LOCAL), **keywords))
        return super().__new__(cls)

    def __init__(
        self,
        model: str,
        *,
        temperature: float | None = None,
        max_tokens: int | None = None,
        model_type: Literal["chat", "text", "responses"] = "chat",
        cache: bool | str | Cache = True,
        retries: int = 3,
        timeout: float | None = 60.0,
        deadline: float | None = None,
        fallbacks: Iterable[str | BaseLM] = (),
        max_concurrency: int | None = None,
        breaker: int | None = 10,
        api_base: str | None = None,
        api_key: str | None = None,
        price: tuple[float, float] | None = None,
        capabilities: Iterable[str] | None = None,
        prompt_caching: bool = True,
        **params: Any,
    ) -> None:
        _check_name(model)
        # DSPy's and OpenAI's spellings of the same.
        retries = params.pop("num_retries", retries)
        api_base = params.pop("base_url", api_base)
        if model_type not in _MODEL_TYPES:
            raise DefinitionError(
                f"model_type must be one of {', '.join(map(repr, _MODEL_TYPES))}, not {model_type!r} "
                f"({type(model_type).__name__})"
            )
        if api_base is not None and (not isinstance(api_base, str) or "://" not in api_base):
            raise DefinitionError(
                f"api_base must be a URL, not {api_base!r} ({type(api_base).__name__}); "
                'write for example api_base="http://localhost:8000/v1"'
            )
        if api_key is not None and not isinstance(api_key, str):  # and what it is, is nobody's business
            raise DefinitionError(
                f'api_key must be a str, and this one is of type {type(api_key).__name__}; write api_key="sk-..."'
            )
        self.model_type = model_type
        self.prompt_caching = bool(prompt_caching)
        self._api_base = api_base
        self._capabilities = checked_capabilities(capabilities)
        self._checked = False
        several = fallbacks if isinstance(fallbacks, Iterable) and not isinstance(fallbacks, str) else [fallbacks]
        super().__init__(
            model,
            cache=cache,
            retries=retries,
            timeout=timeout,
            price=price,
            params={"temperature": temperature, "max_tokens": max_tokens, "api_key": api_key, **params},
            deadline=deadline,
            fallbacks=tuple(LM(one) if isinstance(one, str) else one for one in several),
            max_concurrency=max_concurrency,
            breaker=breaker,
        )

    def _fresh(self) -> None:
        super()._fresh()
        self.ready = False

    def prepare(self) -> None:
        provider.prepare(self.model)
        self.ready = True

    @property
    def api_base(self) -> str | None:
        """The address of its endpoint, without credentials in it; ``None`` for the provider's own."""
        return None if self._api_base is None else public_url(self._api_base)

    @property
    def capabilities(self) -> frozenset[str]:
        """What it can do; asking loads litellm."""
        if self._capabilities is None:
            self._capabilities = provider.capabilities_of(self.model)
        return self._capabilities

    # Blocking calls are awaited on the process's background loop: so a deadline holds, whatever the provider does, and
    # a run that is cancelled ends them.

    ends_with_run = True

    def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
        from dspex.execution.background import await_in_background

        try:
            return await_in_background(self._asend(request, timeout), timeout)
        except TimeoutError as error:
            raise self._late(timeout) from error

    def _stream(self, request: LMRequest, timeout: float | None) -> Generator[Delta | LMResponse, None, None]:
        from dspex.execution.background import iterate_in_background

        stream = iterate_in_background(self._astream(request, timeout), timeout)
        try:
            yield from stream
        except TimeoutError as error:
            raise self._late(timeout) from error

    async def _asend(self, request: LMRequest, timeout: float | None) -> LMResponse:
        from dspex.lm.reading import read

        raw = await self._called(request, timeout)
        return read(raw, model=self.model, price=self.price, secrets=self._untold(request))

    async def _astream(self, request: LMRequest, timeout: float | None) -> AsyncGenerator[Delta | LMResponse, None]:
        from dspex.lm.reading import Assembly

        if self.model_type == "text":
            # litellm does not tell the end of such a stream from its breaking off: in one piece, then.
            async with aclosing(super()._astream(request, timeout)) as whole:
                async for event in whole:
                    yield event
            return
        assembly = Assembly(self.model, self.price, self._untold(request))
        raw = await self._called(request, timeout, stream=True)
        assembly.overhear(raw)
        async with aclosing(self._deltas(raw, assembly, request, timeout)) as deltas:
            async for delta in deltas:
                yield delta
        for delta in assembly.rest():
            yield delta
        yield assembly.response(raw)

    async def _deltas(
        self, raw: Any, assembly: Assembly, request: LMRequest, timeout: float | None
    ) -> AsyncGenerator[Delta, None]:
        chunks = aiter(raw)
        failed: Exception
        try:
            while True:
                try:
                    deltas = assembly.take(await anext(chunks))
                except StopAsyncIteration:
                    return
                except LMError:
                    raise
                except Exception as error:
                    failed = error
                    break
                for delta in deltas:
                    yield delta
        finally:
            if (close := getattr(raw, "aclose", None)) is not None:
                await close()
        translated = self._translated(failed, timeout, request)
        translated.billed = True  # the answer had begun
        raise translated

    async def _called(
        self, request: LMRequest, timeout: float | None, *, stream: bool = False, client: Any = None
    ) -> Any:
        litellm, arguments = self._prepared(request, timeout)
        if client is not None:
            arguments["client"] = client
        if stream:
            arguments["stream"] = True
            if self.model_type != "responses":
                arguments["stream_options"] = {"include_usage": True}
        call = {
            "chat": litellm.acompletion,
            "text": litellm.atext_completion,
            "responses": litellm.aresponses,
        }[self.model_type]
        failed: Exception
        token = provider.ours.set(True)
        try:
            raw = await call(**arguments)
        except Exception as error:
            failed = error
        else:
            if self.gate is not None:
                self.gate.pace.listen(provider_errors.headers_of(raw))
            return raw
        finally:
            provider.ours.reset(token)
        if self.gate is not None:
            self.gate.pace.listen(provider_errors.headers_of(failed))
        raise self._translated(failed, timeout, request)

    def _prepared(self, request: LMRequest, timeout: float | None) -> tuple[Any, dict[str, Any]]:
        litellm = provider.load()
        import httpx

        arguments: dict[str, Any] = {
            **{name: value for name, value in self._secrets.items() if name not in self._params},
            **self.effective_params(request),
            # As it is sent, and not as it may be shown.
            **{name: self._secrets[name] for name in self._secrets.keys() & self._params if name not in request.params},
            "model": self.model,
            "num_retries": 0,  # retries are ours: counted, within the budget and the deadline
            "max_retries": 0,
            "timeout": httpx.Timeout(timeout, connect=min(timeout or _LONGEST_CONNECT, _LONGEST_CONNECT)),
        }
        if self._api_base is not None:
            arguments["api_base"] = self._api_base
        arguments.pop("rollout_id", None)  # tells calls apart in the cache; no provider knows it
        if "seed" in arguments and "seed" not in self.params and "seed" not in self.capabilities:
            del arguments["seed"]  # it came with a run, for models that take one
        if request.grammar is not None:
            self._must_have("grammar")
            arguments["extra_body"] = {**arguments.get("extra_body", {}), "grammar": request.grammar}
        if request.schema is not None:
            self._must_have("json_schema")
        compose(
            request,
            arguments,
            model=self.model,
            model_type=self.model_type,
            marked=self.prompt_caching and needs_marks(self.model, request.head),
        )
        if not arguments.get("api_key"):
            self._without_key(arguments)
        self._checked = True
        return litellm, arguments

    def _must_have(self, capability: str) -> None:
        if capability not in self.capabilities:
            what = {"json_schema": "schema", "grammar": "grammar"}[capability]
            raise LMRequestError(
                f"{self.model} does not say that it can be held to a {what}: leave out {what}=, or write "
                f"dspex.LM({self.model!r}, capabilities=[{capability!r}, ...]) when it can",
                model=self.model,
            )

    def _without_key(self, arguments: dict[str, Any]) -> None:
        if self._checked and self._api_base is None:
            return
        missing = provider.missing_keys(self.model)
        if not missing:
            return
        if self._api_base is None:
            raise LMAuthError(provider_errors.no_key(self.model, missing), model=self.model)
        # A server of one's own usually wants no key, but the client insists on sending one.
        arguments["api_key"] = "none"

    def _translated(self, error: Exception, timeout: float | None, request: LMRequest | None = None) -> LMError:
        """``error`` as one of ours; it is the cause, unless there is a secret in it."""
        secrets = self._untold(request)
        where = self.api_base or self.model.partition("/")[0]
        has_key = bool(self._secrets.get("api_key"))
        ours = provider_errors.typed(
            error, model=self.model, where=where, timeout=timeout, has_key=has_key, secrets=secrets
        )
        if not provider_errors.tells(error, secrets):
            ours.__cause__ = error
        return ours

    def _untold(self, request: LMRequest | None = None) -> list[str]:
        """The secrets that a provider may repeat in what it says."""
        secrets = [*secret_values(self._secrets), *secret_values({} if request is None else request.params)]
        secrets += [value for name, value in os.environ.items() if name.endswith(("_API_KEY", "_TOKEN"))]
        if self._api_base is not None and self._api_base != self.api_base:
            secrets += [self._api_base, *url_secrets(self._api_base)]
        return secrets

    def _account(self) -> tuple[str, ...]:
        return (self.model, self._api_base or "", str(self._secrets.get("api_key", "")))

    def _output_bound(self) -> int | None:
        return provider.output_bound(self.model)

    def _price_bound(self) -> tuple[float, float] | None:
        return self.price if self.price is not None else provider.price_bound(self.model)

    def _identify(self) -> dict[str, Any]:
        identity: dict[str, Any] = {"model": self.model}
        if self.model_type != "chat":
            identity["model_type"] = self.model_type
        if self._api_base is not None:
            identity["api_base"] = self.api_base
        return identity

    def to_json(self) -> dict[str, Any]:
        """As of every model, with ``prompt_caching``."""
        return {**super().to_json(), "prompt_caching": self.prompt_caching}

    @classmethod
    def _from_json(cls, data: Mapping[str, Any], **given: Any) -> BaseLM:
        saved = data.get("api_base")
        if saved is not None and "api_base" not in given:
            raise StateError(
                f"the model {data.get('model')!r} was saved with api_base={saved!r}, and no file may decide "
                "where prompts are sent: give api_base= again (None for the provider's own address)"
            )
        unsafe = [name for name in unsafe_params(data.get("params", {})) if name not in given]
        if unsafe:
            raise StateError(
                f"the model {data.get('model')!r} was saved with {', '.join(unsafe)}: no file may decide where and "
                "with whose credentials prompts are sent, nor what else a client does, so only parameters of "
                f"sampling are taken from one; give {unsafe[0]}= again (None to leave it out)"
            )
        more = {name: data[name] for name in ("model_type", "prompt_caching") if name in data}
        return cls(data["model"], **{**saved_options(data), **more, **given})


def _check_name(model: Any) -> None:
    if not isinstance(model, str):
        raise DefinitionError(
            f'model must be a name, not {model!r} ({type(model).__name__}); write dspex.LM("openai/gpt-4o-mini")'
        )
    if "://" in model:
        # Some of litellm's providers send prompts to an address in a name, and names may come from files.
        raise DefinitionError(
            f"model must be a name, and {public_url(model)!r} has an address in it; write "
            'dspex.LM("openai/NAME", api_base="http://localhost:8000/v1") for a server of your own'
        )
    maker, _, name = model.partition("/")
    if not maker or not name or model != model.strip():
        example = f"openai/{model.strip('/ ')}" if model.strip("/ ") else "openai/gpt-4o-mini"
        raise DefinitionError(
            f"model must name provider and model, not {model!r}.\n"
            f"  wrong: dspex.LM({model!r})\n"
            f'  right: dspex.LM("{example}")'
        )
