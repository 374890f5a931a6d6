"""Many calls at a server that fails, and whether its books and ours agree."""

from __future__ import annotations

import asyncio
from typing import Any

from dspex.data import Usage
from dspex.errors import LMConnectionError, LMContentFilterError, LMContextWindowError, LMError
from dspex.execution import Run, track_usage
from dspex.lm import LM, LMRequest, LMResponse
from tests.lm.faults import MIX, expected

Ending = LMResponse | LMError


class CountingLM(LM):
    """Counts the attempts that could not be sent, of which the server knows nothing."""

    unsent = 0

    def may_be_billed(self, error: BaseException) -> bool:  # asked once for each failed attempt
        billed = super().may_be_billed(error)
        self.unsent += isinstance(error, LMConnectionError) and not billed
        return billed


def texts_of(calls: int) -> list[str]:
    return [f"call {number}" for number in range(calls)]


async def ask_all(
    lm: LM, calls: int, *, concurrency: int, streamed: float = 0.0
) -> tuple[dict[str, Ending], Usage, Any]:
    """Make all calls; the ending of each, the usage of their run and the ledger's total."""
    gate = asyncio.Semaphore(concurrency)
    endings: dict[str, Ending] = {}
    run = Run()

    async def ask(number: int, text: str) -> None:
        async with gate:
            request = LMRequest.of(text)
            try:
                if number % 100 < 100 * streamed:
                    async for event in lm.astream(request, run):
                        if isinstance(event, LMResponse):
                            endings[text] = event
                else:
                    endings[text] = await lm.agenerate(request, run)
            except LMError as error:
                endings[text] = error

    with track_usage() as ledger:
        run = Run()
        await asyncio.gather(*(ask(number, text) for number, text in enumerate(texts_of(calls))))
    return endings, run.usage, ledger.total


def discrepancies(endings: dict[str, Ending], usage: Usage, total: Usage, books: Any, lm: CountingLM) -> list[str]:
    """What is wrong, in words; nothing when each call is answered right or typed as failed, and all is accounted."""
    wrong = []
    outcomes = books["outcomes"]
    if set(endings) != set(outcomes):
        wrong.append(f"{len(outcomes)} calls came, {len(endings)} have ended")
    for text, ending in endings.items():
        seen = outcomes.get(text, {})
        if isinstance(ending, LMResponse):
            if ending.text != expected(text)[0]:
                wrong.append(f"{text}: answered {ending.text!r}")
            if seen.get("answered") != 1:
                wrong.append(f"{text}: paid {seen.get('answered', 0)} times ({seen})")
        elif "answered" in seen:
            wrong.append(f"{text}: paid, and ended in {ending!r} ({seen})")
        elif ("content filter" in seen, "context window" in seen) != (
            isinstance(ending, LMContentFilterError),
            isinstance(ending, LMContextWindowError),
        ):
            wrong.append(f"{text}: {ending!r} ({seen})")
    answered = [text for text, seen in outcomes.items() if "answered" in seen]
    requests = sum(sum(seen.values()) for seen in outcomes.values())
    broken = sum(seen.get(name, 0) for seen in outcomes.values() for name, (_, worked) in MIX.items() if worked)
    for name, ours, theirs in (
        ("answers", usage.calls, len(answered)),
        ("failed attempts", usage.failed_calls - lm.unsent, requests - len(answered)),
        ("tokens read", usage.prompt_tokens, sum(expected(text)[1] for text in answered)),
        ("tokens written", usage.completion_tokens, sum(expected(text)[2] for text in answered)),
        ("calls of unknown cost", usage.unknown_calls, broken),
    ):
        if ours != theirs:
            wrong.append(f"{name}: {ours} in our account, {theirs} in the server's")
    if total != usage:
        wrong.append(f"the ledger has {total!r}, the run {usage!r}")
    return wrong
