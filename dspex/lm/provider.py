"""litellm, held at arm's length: loaded on the first call, kept from the network, asked what it knows of models."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import sys
import threading
import types
import weakref
from contextvars import ContextVar
from difflib import get_close_matches
from typing import Any

from dspex.errors import LMRequestError

__all__ = [
    "batch_cost_of",
    "batch_price_bound",
    "capabilities_of",
    "cost_of",
    "finish_reason",
    "load",
    "missing_keys",
    "ours",
    "output_bound",
    "prepare",
    "price_bound",
    "stream_end",
]

_log = logging.getLogger("dspex.lm")

ours: ContextVar[bool] = ContextVar("dspex_litellm_call", default=False)
"""Whether it is a call of ours that litellm is busy with, and none that its user makes beside us."""

_loading = threading.Lock()
_loaded: Any = None


def load() -> Any:
    """The litellm module. It reads its price lists from its own files, and reports nothing to anybody."""
    global _loaded
    if _loaded is None:
        with _loading:
            if _loaded is None:
                for name in ("MODEL_COST_MAP", "ANTHROPIC_BETA_HEADERS", "BLOG_POSTS"):
                    os.environ.setdefault(f"LITELLM_LOCAL_{name}", "True")
                import litellm

                litellm.suppress_debug_info = True
                if "LITELLM_LOG" not in os.environ:
                    # Its remarks on its own housekeeping are no news of ours, and could quote what is sent.
                    logging.getLogger("LiteLLM").setLevel(logging.ERROR)
                litellm.telemetry = False  # of older versions
                _without_gateway()
                _without_second_requests()
                _without_complaints()
                _with_kept_clients()
                _loaded = litellm
    return _loaded


def prepare(model: str) -> None:
    """Load what the first call of ``model`` would: litellm, and for OpenAI's protocol its client.

    Raises `LMRequestError` when the provider in ``model`` is none that litellm knows.
    """
    litellm = load()
    if _provider_of(model) in {"openai", "azure", *litellm.openai_compatible_providers}:
        import openai.resources.chat.completions  # noqa: F401 - three hundred modules, loaded on use


def _without_gateway() -> None:
    """Tell litellm that there is no MCP gateway, where the package that its gateway needs is missing.

    At each call with tools, and at each of the responses interface, litellm looks for tools of its proxy's gateway, and
    fails when it cannot import ``mcp`` for that. Our tools are none of its gateway's.
    """
    gateway = "litellm.responses.mcp.litellm_proxy_mcp_handler"
    if gateway not in sys.modules and importlib.util.find_spec("mcp") is None:
        module = types.ModuleType(gateway)
        module.LiteLLM_Proxy_MCP_Handler = _NoGateway  # type: ignore[attr-defined]  # what it is asked for
        sys.modules[gateway] = module


class _NoGateway:
    @staticmethod
    def should_use_litellm_mcp_gateway(tools: Any = None) -> bool:
        return False


def _without_second_requests() -> None:
    """Keep litellm from sending a request of ours again, untold, after its connection was reset: it may be paid twice.

    What is sent again is decided, counted and held to the budget in one place, which is ours.
    """
    try:
        from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

        usual = AsyncHTTPHandler.single_connection_post_request
    except (ImportError, AttributeError) as error:  # another litellm than those we know
        _log.warning("litellm may send a request twice when its connection is reset: %s", error)
        return

    async def only_once(*args: Any, **keywords: Any) -> Any:
        lost = sys.exc_info()[1]  # it is called where that was caught
        if lost is None or not ours.get():
            return await usual(*args, **keywords)
        raise lost

    AsyncHTTPHandler.single_connection_post_request = only_once  # type: ignore[method-assign]  # on purpose


def _without_complaints() -> None:
    """Give each event loop a log of calls of its own.

    litellm's is one for the process, with a task on the loop of the last call. When two loops run at once, each takes
    it from the other in the middle of what it does, which is reported as errors; and one that was left behind is
    "destroyed but pending" when the process exits. A log whose loop is closed serves another.
    """
    import asyncio

    try:
        from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER, LoggingWorker

        usual = LoggingWorker.ensure_initialized_and_enqueue
        logs = [GLOBAL_LOGGING_WORKER]
        _ = (GLOBAL_LOGGING_WORKER._bound_loop, GLOBAL_LOGGING_WORKER._worker_task)
    except (ImportError, AttributeError):  # another litellm than those we know, which may do better
        return
    of_loop: weakref.WeakKeyDictionary[Any, LoggingWorker] = weakref.WeakKeyDictionary()
    lock = threading.Lock()

    def enqueue(self: Any, async_coroutine: Any) -> None:
        loop = asyncio.get_running_loop()
        log = of_loop.get(loop)
        if log is None:
            with lock:
                free = (log for log in logs if log._bound_loop is None or log._bound_loop.is_closed())
                log = next(free, None)
                if log is None:
                    logs.append(log := LoggingWorker())
                log.start()  # which binds it to this loop
            of_loop[loop] = log
        usual(log, async_coroutine)
        if log._worker_task is not None:
            log._worker_task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own way to say so

    LoggingWorker.ensure_initialized_and_enqueue = enqueue  # type: ignore[method-assign]  # on purpose


def _with_kept_clients() -> None:
    """Have calls that complete a text use the client that litellm keeps for chat.

    It makes one for each of them and closes none, so that each leaves a connection behind, and a complaint of it.
    """
    try:
        from litellm.llms.openai.completion.handler import OpenAITextCompletion
        from litellm.main import openai_chat_completions

        usual = OpenAITextCompletion.acompletion
        kept = openai_chat_completions._get_openai_client
    except (ImportError, AttributeError):  # another litellm than those we know, which may do better
        return

    async def with_kept_client(*args: Any, **keywords: Any) -> Any:
        names = ("api_key", "api_base", "timeout", "max_retries", "organization")
        if ours.get() and keywords.get("client") is None and keywords.keys() >= set(names):
            given: dict[str, Any] = {name: keywords[name] for name in names}
            keywords["client"] = kept(is_async=True, **given)
        return await usual(*args, **keywords)

    OpenAITextCompletion.acompletion = with_kept_client  # type: ignore[method-assign]  # on purpose


def stream_end(stream: Any) -> tuple[bool, Any]:
    """Whether the provider ended ``stream`` itself, and the usage it told, if any.

    litellm makes an end up when there was none, and counts tokens itself when the provider told none.
    """
    ended = bool(getattr(stream, "received_finish_reason", None) or getattr(stream, "intermittent_finish_reason", None))
    told = [usage for chunk in getattr(stream, "chunks", ()) if (usage := getattr(chunk, "usage", None)) is not None]
    return ended, told[-1] if told else None


def finish_reason(said: str | None) -> str | None:
    """Why an answer has ended, in the words that litellm has for what all providers say."""
    if said is None:
        return None
    from litellm.litellm_core_utils.core_helpers import map_finish_reason

    return str(map_finish_reason(said))


def _provider_of(model: str) -> str:
    litellm = load()
    provider = model.partition("/")[0]
    try:
        found: str = litellm.get_llm_provider(model)[1]
        return found
    except Exception as error:
        known = sorted({str(getattr(one, "value", one)) for one in litellm.provider_list})
        close = get_close_matches(provider, known, n=1)
        hint = f'; did you mean "{close[0]}/{model.partition("/")[2]}"?' if close else ""
        raise LMRequestError(
            f"there is no provider {provider!r} (of model {model!r}){hint} "
            'Write "provider/model", for example "openai/gpt-4o-mini" or "local/smollm2-135m"; '
            'a server of your own that speaks OpenAI\'s protocol is "openai/NAME" with api_base=...',
            model=model,
        ) from error


def missing_keys(model: str) -> list[str]:
    """The environment variables, any of which would hold the API key for ``model``, when none is set.

    Empty too when the provider takes credentials in other ways, which only a call can try.
    """
    litellm = load()
    if getattr(litellm, "api_key", None) or os.environ.get("ANTHROPIC_AUTH_TOKEN"):
        return []
    try:
        missing = litellm.validate_environment(model)["missing_keys"]
    except Exception:
        return []
    return sorted(missing) if missing and all(name.endswith("_API_KEY") for name in missing) else []


def capabilities_of(model: str) -> frozenset[str]:
    """What litellm knows the model can do, of the names that `BaseLM.capabilities` uses."""
    litellm = load()
    supported = set(litellm.get_supported_openai_params(model) or ())
    found = {name for name in ("seed", "n", "logprobs", "stop") if name in supported}
    if "response_format" in supported and litellm.supports_response_schema(model):
        found.add("json_schema")
    info = _info(model)
    found |= {name for name, known_as in _KNOWN_AS.items() if info.get(f"supports_{known_as}")}
    if "pdf" in found and _provider_of(model) == "anthropic":
        found.add("documents")  # whoever of them reads files cites them, which litellm's list does not say
    return frozenset(found)


_KNOWN_AS = {
    "audio": "audio_input",
    "pdf": "pdf_input",
    "prompt_caching": "prompt_caching",
    "reasoning": "reasoning",
    "tools": "function_calling",
    "vision": "vision",
}


def _info(model: str) -> dict[str, Any]:
    litellm = load()
    try:
        name, provider = litellm.get_llm_provider(model)[:2]
        known = litellm.get_model_info(name, custom_llm_provider=provider)
    except Exception:  # not in its list
        return {}
    return dict(known)


def output_bound(model: str) -> int | None:
    """The most tokens the model answers with, as far as litellm knows."""
    info = _info(model)
    longest = info.get("max_output_tokens") or info.get("max_tokens")
    return int(longest) if longest else None


# Discounts and surcharges that apply only to calls which ask for them.
_OTHER_TIER = re.compile(r"_(batches|flex|priority|balanced|ultrafast|image|audio|video)")


def price_bound(model: str) -> tuple[float, float] | None:
    """Dollars per million tokens, (input, output), at the dearest that litellm knows; ``None`` if unknown."""
    info = _info(model)
    bounds = []
    for side in ("input_cost_per_token", "output_cost_per_token"):
        if info.get(side) is None:
            return None
        names = [name for name in info if name.startswith(side)]
        if side.startswith("input"):
            names += [name for name in info if name.startswith("cache_creation_input_token_cost")]
        else:
            names.append("output_cost_per_reasoning_token")
        prices = [info.get(name) for name in names if not _OTHER_TIER.search(name)]
        bounds.append(1e6 * max(price for price in prices if isinstance(price, (int, float))))
    return bounds[0], bounds[1]


def cost_of(model: str, usage: Any) -> float | None:
    """Dollars for what litellm says was used; ``None`` when it does not know the price."""
    if usage is None:
        return None
    litellm = load()
    try:
        if hasattr(usage, "input_tokens") and not hasattr(usage, "prompt_tokens"):
            prompt, completion = litellm.cost_per_token(
                model=model, prompt_tokens=usage.input_tokens, completion_tokens=usage.output_tokens
            )
        else:
            prompt, completion = litellm.cost_per_token(model=model, usage_object=usage)
    except Exception:  # not in its list
        return None
    return float(prompt + completion)


_PER_TOKEN = ("input_cost_per_token", "output_cost_per_token")


def batch_price_bound(model: str) -> tuple[float, float] | None:
    """As `price_bound`, through the batch endpoint: what litellm knows of it, and half of the price at least."""
    bound = price_bound(model)
    if bound is None:
        return None
    info = _info(model)
    known = [info.get(f"{side}_batches") for side in _PER_TOKEN]
    return (max(bound[0] / 2, 1e6 * (known[0] or 0.0)), max(bound[1] / 2, 1e6 * (known[1] or 0.0)))


def batch_cost_of(model: str, usage: Any) -> float | None:
    """As `cost_of`, through the batch endpoint: by litellm's prices for it, or half of the price where it has none."""
    full = cost_of(model, usage)
    if full is None:
        return None
    info = _info(model)
    if any(info.get(f"{side}_batches") is None for side in _PER_TOKEN):
        return full / 2
    litellm = load()
    name, maker = litellm.get_llm_provider(model)[:2]
    if hasattr(usage, "input_tokens") and not hasattr(usage, "prompt_tokens"):
        usage = litellm.Usage(
            prompt_tokens=usage.input_tokens,
            completion_tokens=usage.output_tokens,
            prompt_tokens_details=getattr(getattr(usage, "input_tokens_details", None), "model_dump", dict)(),
        )
    parts = litellm.cost_calculator.batch_cost_calculator(usage=usage, model=name, custom_llm_provider=maker)
    return float(sum(parts))
