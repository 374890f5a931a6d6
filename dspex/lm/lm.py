"""`LM`: any provider's model, through litellm."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, cast

from dspex.errors import DefinitionError, LMAuthError, LMConnectionError, LMError, StateError
from dspex.lm import provider
from dspex.lm.base import BaseLM
from dspex.lm.cache import Cache
from dspex.lm.options import saved_options
from dspex.lm.secrets import public_url, values_of
from dspex.lm.types import LMRequest, LMResponse

__all__ = ["LM"]

_LONGEST_CONNECT = 10.0
_LOCAL = "local/"


class LM(BaseLM):
    """A provider's model, named ``"provider/model"`` as litellm names it; litellm loads on the first call.

    ``LM("local/NAME")`` is an embedded model that runs in this process (extra ``local``), ``LM("openai/NAME",
    api_base=URL)`` a server that speaks OpenAI's protocol. Besides what every model takes (see `BaseLM`):

    ``temperature``, ``max_tokens`` and any further keyword
        go to the provider with each request.
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

    Raises `DefinitionError` for a name without a provider. Calls raise `LMAuthError` without a key,
    `LMRequestError` for an unknown provider or model, `LMConnectionError` when nothing answers.

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
        cache: bool | Cache = True,
        retries: int = 3,
        timeout: float | None = 60.0,
        api_base: str | None = None,
        api_key: str | None = None,
        price: tuple[float, float] | None = None,
        capabilities: Iterable[str] | None = None,
        **params: Any,
    ) -> None:
        _check_name(model)
        # DSPy's and OpenAI's spellings of the same.
        retries = params.pop("num_retries", retries)
        api_base = params.pop("base_url", api_base)
        for name, right in _NOT_PARAMS.items():
            if name in params:
                raise DefinitionError(f"LM takes no {name}={params[name]!r}: {right}")
        if api_base is not None and (not isinstance(api_base, str) or "://" not in api_base):
            raise DefinitionError(
                f"api_base must be a URL, not {api_base!r} ({type(api_base).__name__}); "
                'write for example api_base="http://localhost:8000/v1"'
            )
        self._api_base = api_base
        self._capabilities = None if capabilities is None else frozenset(capabilities)
        self._checked = False
        super().__init__(
            model,
            cache=cache,
            retries=retries,
            timeout=timeout,
            price=price,
            params={"temperature": temperature, "max_tokens": max_tokens, "api_key": api_key, **params},
        )

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

    def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
        litellm, arguments = self._prepared(request, timeout)
        try:
            raw = litellm.completion(**arguments)
        except Exception as error:
            raise self._translated(error, timeout) from error
        return provider.read(raw, model=self.model, price=self.price)

    async def _asend(self, request: LMRequest, timeout: float | None) -> LMResponse:
        litellm, arguments = self._prepared(request, timeout)
        try:
            raw = await litellm.acompletion(**arguments)
        except Exception as error:
            raise self._translated(error, timeout) from error
        return provider.read(raw, model=self.model, price=self.price)

    def _prepared(self, request: LMRequest, timeout: float | None) -> tuple[Any, dict[str, Any]]:
        litellm = provider.load()
        import httpx

        arguments: dict[str, Any] = {
            **self._secrets,
            **self.effective_params(request),
            "model": self.model,
            "messages": [dict(message) for message in request.messages],
            "num_retries": 0,  # retries are ours: counted, within the budget and the deadline
            "max_retries": 0,
            "timeout": httpx.Timeout(timeout, connect=min(timeout or _LONGEST_CONNECT, _LONGEST_CONNECT)),
        }
        if self._api_base is not None:
            arguments["api_base"] = self._api_base
        if request.schema is not None:
            schema: dict[str, Any] = {"name": "answer", "schema": request.schema}
            if request.schema.get("additionalProperties") is False:
                schema["strict"] = True
            arguments["response_format"] = {"type": "json_schema", "json_schema": schema}
        arguments.pop("rollout_id", None)  # tells calls apart in the cache; no provider knows it
        if "seed" in arguments and "seed" not in self.params and "seed" not in self.capabilities:
            del arguments["seed"]  # it came with a run, for models that take one
        if request.grammar is not None:
            arguments["extra_body"] = {**arguments.get("extra_body", {}), "grammar": request.grammar}
        if not self._checked:
            provider.check_provider(self.model)
        if not arguments.get("api_key"):
            self._without_key(arguments)
        self._checked = True
        return litellm, arguments

    def _without_key(self, arguments: dict[str, Any]) -> None:
        if self._checked and self._api_base is None:
            return
        missing = provider.missing_keys(self.model)
        if not missing:
            return
        if self._api_base is None:
            raise LMAuthError(provider.no_key(self.model, missing), model=self.model)
        # A server of one's own usually wants no key, but the client insists on sending one.
        arguments["api_key"] = "none"

    def _translated(self, error: Exception, timeout: float | None) -> LMError:
        secrets = [value for secret in self._secrets.values() for value in values_of(secret)]
        secrets += [value for name, value in os.environ.items() if name.endswith(("_API_KEY", "_TOKEN"))]
        if self._api_base is not None and self._api_base != self.api_base:
            secrets.append(self._api_base)
        where = self.api_base or self.model.partition("/")[0]
        has_key = bool(self._secrets.get("api_key"))
        return provider.typed(error, model=self.model, where=where, timeout=timeout, has_key=has_key, secrets=secrets)

    def prepare(self) -> None:
        provider.prepare(self.model)

    def may_be_billed(self, error: BaseException) -> bool:
        if isinstance(error, LMConnectionError):
            return provider.was_sent(error)
        return super().may_be_billed(error)

    def _output_bound(self) -> int | None:
        return provider.output_bound(self.model)

    def _price_bound(self) -> tuple[float, float] | None:
        return self.price if self.price is not None else provider.price_bound(self.model)

    def _identify(self) -> dict[str, Any]:
        identity: dict[str, Any] = {"model": self.model}
        if self._api_base is not None:
            identity["api_base"] = self.api_base
        return identity

    @classmethod
    def _from_json(cls, data: Mapping[str, Any], **given: Any) -> BaseLM:
        saved = data.get("api_base")
        if saved is not None and "api_base" not in given:
            raise StateError(
                f"the model {data.get('model')!r} was saved with api_base={saved!r}, and no file may decide "
                "where prompts are sent: give api_base= again (None for the provider's own address)"
            )
        return cls(data["model"], **{**saved_options(data), **given})


_NOT_PARAMS = {
    "messages": "messages go into each call, lm(messages=[...])",
    "model_type": "all models are called as chat models; leave it out",
    "stream": "an LM returns whole answers; leave it out",
}


def _check_name(model: Any) -> None:
    if not isinstance(model, str):
        raise DefinitionError(
            f'model must be a name, not {model!r} ({type(model).__name__}); write dspex.LM("openai/gpt-4o-mini")'
        )
    maker, _, name = model.partition("/")
    if not maker or not name or model != model.strip():
        example = f"openai/{model.strip('/ ')}" if model.strip("/ ") else "openai/gpt-4o-mini"
        raise DefinitionError(
            f"model must name provider and model, not {model!r}.\n"
            f"  wrong: dspex.LM({model!r})\n"
            f'  right: dspex.LM("{example}")'
        )
