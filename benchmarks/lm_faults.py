"""10,000 calls over real HTTP, 200 at once, at a provider that fails one request in five; and whether the books agree.

The provider is `tests/lm/faults.py` in a process of its own: it refuses (with and without Retry-After), fails, resets
connections, sends broken JSON, broken-off bodies and streams, bodies that never end, and refuses some calls for good. A
third of the calls are streamed. What is claimed is no speed: each call ends in the right answer or in a typed error,
none is lost, none is paid for twice, and each attempt that we count is one that the provider saw once, with the outcome
that it had there, or one that found no connection; so are tokens and unknown bills.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

from _measure import QUICK, table, verdict

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from dspex.lm import LMResponse  # noqa: E402 - from this checkout
from tests.lm.books import NumberedLM, ask_all, discrepancies  # noqa: E402 - as above

CALLS = 500 if QUICK else 10_000
CONCURRENCY = 200
STREAMED = 0.33
PATIENCE = 60.0


def main() -> int:
    provider = subprocess.Popen(
        [sys.executable, "-m", "tests.lm.faults", "0", "1.1"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert provider.stdout is not None
    try:
        url = provider.stdout.readline().strip()
        lm = NumberedLM(
            "openai/served", api_base=url, api_key="none", cache=False, retries=8, timeout=PATIENCE, price=(1, 2)
        )
        began = time.perf_counter()
        endings, usage, total = ask_all(lm, CALLS, concurrency=CONCURRENCY, streamed=STREAMED)
        seconds = time.perf_counter() - began
        with urllib.request.urlopen(url) as answer:
            requests = json.load(answer)
    finally:
        provider.terminate()
    wrong = discrepancies(endings, usage, total, [tuple(request) for request in requests], lm)
    faults = Counter(outcome for _, _, outcome in requests)
    answered = sum(isinstance(ending, LMResponse) for ending in endings.values())
    table(
        f"{CALLS:,} calls, {CONCURRENCY} at once, {STREAMED:.0%} streamed, in {seconds:.0f} s",
        ["what the provider did", "requests", "share"],
        [[name, f"{count:,}", f"{count / len(requests):.1%}"] for name, count in faults.most_common()],
    )
    print(f"  {answered:,} answered, {CALLS - answered:,} typed as failed; {usage}")
    print(f"  {len(lm.attempts):,} attempts, {len(lm.attempts) - len(requests):,} of them never came to the provider")
    print(f"  tried again for: {Counter(type(error).__name__ for error in lm.attempts.values() if error)}\n")
    for what in wrong[:20]:
        print(f"  wrong: {what}")
    if len(endings) != CALLS:
        wrong.append(f"{CALLS - len(endings)} calls are lost")
    failed = 1 - faults["answered"] / len(requests)
    return verdict(
        {
            f"{CALLS:,} calls with {failed:.0%} of the requests failing: right or typed, none lost, none paid twice, "
            "exact to the token": not wrong
        }
    )


if __name__ == "__main__":
    sys.exit(main())
