"""Many calls at a server that fails, and whether its books and ours agree, attempt by attempt."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

from dspex.data import Usage
from dspex.errors import LMConnectionError, LMContentFilterError, LMContextWindowError, LMError, LMTimeoutError
from dspex.execution import Outcome, Run, run_many, track_usage
from dspex.lm import LM, LMRequest, LMResponse
from tests.lm.faults import MIX, expected

Ending = LMResponse | LMError
Requests = Iterable[tuple[str, int | None, str]]


class NumberedLM(LM):
    """Numbers its attempts for the server, and keeps what became of each: None for an answer, or its error."""

    def __init__(self, model: str, **options: Any) -> None:
        super().__init__(model, **options)
        self.attempts: dict[int, BaseException | None] = {}
        self._numbers = itertools.count()

    def _numbered(self, request: LMRequest) -> tuple[int, LMRequest]:
        number = next(self._numbers)
        headers = {"X-Attempt": str(number)}
        return number, request.replace(params={**request.params, "extra_headers": headers})

    async def _asend(self, request: LMRequest, timeout: float | None) -> LMResponse:
        number, request = self._numbered(request)
        try:
            response = await super()._asend(request, timeout)
        except BaseException as error:
            self.attempts[number] = error
            raise
        self.attempts[number] = None
        return response

    async def _astream(self, request: LMRequest, timeout: float | None) -> AsyncGenerator[Any, None]:
        number, request = self._numbered(request)
        try:
            async for event in super()._astream(request, timeout):
                if isinstance(event, LMResponse):
                    self.attempts[number] = None
                yield event
        except BaseException as error:
            self.attempts.setdefault(number, error)
            raise


def ask_all(
    lm: LM, calls: int, *, concurrency: int, streamed: float = 0.0, blocking: bool = False
) -> tuple[dict[str, Any], Usage, Usage]:
    """Make all calls, as tasks or on threads; the ending of each, the usage of their run and the ledger's total."""
    texts = [f"call {number}" for number in range(calls)]
    in_pieces = {text for number, text in enumerate(texts) if number % 100 < 100 * streamed}
    endings: dict[str, Any] = {}

    def keep(outcome: Outcome[str, LMResponse]) -> None:
        assert outcome.item not in endings
        endings[outcome.item] = outcome.value if outcome.ok else outcome.error

    with track_usage() as ledger:
        run = Run()

        def ask(text: str) -> LMResponse:
            if text in in_pieces:
                response: LMResponse = list(lm.stream(LMRequest.of(text), run))[-1]  # type: ignore[assignment]
                return response
            return lm.generate(LMRequest.of(text), run)

        async def aask(text: str) -> LMResponse:
            if text in in_pieces:
                response: LMResponse = [event async for event in lm.astream(LMRequest.of(text), run)][-1]  # type: ignore[assignment]
                return response
            return await lm.agenerate(LMRequest.of(text), run)

        way: Callable[[str], Any] = ask if blocking else aask
        run_many(way, texts, concurrency=concurrency, on_result=keep)
    return endings, run.usage, ledger.total


def discrepancies(endings: dict[str, Any], usage: Usage, total: Usage, requests: Requests, lm: NumberedLM) -> list[str]:
    """What is wrong, in words; nothing when each call is answered right or typed as failed, and all is accounted."""
    wrong: list[str] = []
    by_text: dict[str, Counter[str]] = {}
    by_attempt: dict[int | None, str] = {}
    for text, number, outcome in requests:
        by_text.setdefault(text, Counter())[outcome] += 1
        if number not in lm.attempts:
            wrong.append(f"a request ({text}: {outcome}) belongs to no attempt of ours")
        elif number in by_attempt:
            wrong.append(f"attempt {number} ({text}) was sent twice: {by_attempt[number]}, {outcome}")
        by_attempt[number] = outcome
    wrong += _wrong_endings(endings, by_text)
    unsent = [error for number, error in lm.attempts.items() if number not in by_attempt]
    for number, error in lm.attempts.items():
        outcome = by_attempt.get(number, "not sent")
        if (error is None) != (outcome == "answered"):
            wrong.append(f"attempt {number}: {outcome} there, {error!r} here")
    wrong += [
        f"not sent, and {error!r}" for error in unsent if not isinstance(error, (LMConnectionError, LMTimeoutError))
    ]
    # Of a call that was not answered in time nobody here knows whether it was sent.
    doubtful = sum(isinstance(error, LMError) and error.billed for error in unsent)
    worked = {name for name, (_, worked) in MIX.items() if worked}
    outcomes = Counter(by_attempt.values())
    answered = [text for text, seen in by_text.items() if "answered" in seen]
    for name, ours, theirs in (
        ("attempts", usage.calls + usage.failed_calls, len(lm.attempts)),
        ("answers", usage.calls, outcomes["answered"]),
        ("failed attempts", usage.failed_calls, outcomes.total() - outcomes["answered"] + len(unsent)),
        ("tokens read", usage.prompt_tokens, sum(expected(text)[1] for text in answered)),
        ("tokens written", usage.completion_tokens, sum(expected(text)[2] for text in answered)),
        ("calls of unknown cost", usage.unknown_calls, sum(outcomes[name] for name in worked) + doubtful),
    ):
        if ours != theirs:
            wrong.append(f"{name}: {ours} in our account, {theirs} in the server's")
    if total != usage:
        wrong.append(f"the ledger has {total!r}, the run {usage!r}")
    return wrong


def _wrong_endings(endings: dict[str, Any], by_text: dict[str, Counter[str]]) -> list[str]:
    wrong = [f"{text}: came, and has not ended" for text in by_text if text not in endings]
    for text, ending in endings.items():
        seen = by_text.get(text, Counter())
        if isinstance(ending, LMResponse):
            if ending.text != expected(text)[0]:
                wrong.append(f"{text}: answered {ending.text!r}")
            if seen["answered"] != 1:
                wrong.append(f"{text}: paid {seen['answered']} times ({seen})")
        elif not isinstance(ending, LMError):
            wrong.append(f"{text}: ended in {ending!r}, which is no error of ours")
        elif seen["answered"]:
            wrong.append(f"{text}: paid, and ended in {ending!r} ({seen})")
        elif (bool(seen["content filter"]), bool(seen["context window"])) != (
            isinstance(ending, LMContentFilterError),
            isinstance(ending, LMContextWindowError),
        ):
            wrong.append(f"{text}: {ending!r} ({seen})")
    return wrong
