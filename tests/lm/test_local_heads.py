"""What the embedded model keeps of the prompts it has read, without a model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dspex.lm.local import heads
from dspex.lm.local.engine import Engine, Job, Setup
from dspex.lm.local.heads import Heads
from dspex.lm.local.weights import Weights
from dspex.lm.types import MessageBlock


class FakePort:
    """A lane that notes what it does. It is its own server."""

    def __init__(self, kept: Heads, *, size: int = 1, during: Callable[[], object] = lambda: None) -> None:
        self.kept, self.size, self.during = kept, size, during
        self.text = ""
        self.log: list[str] = []
        self.server = self
        self.broken = False

    def handle_chat_completions(self, body: Any, read: Callable[[Any], bool]) -> None:
        self.log.append("read " + body["messages"][0]["content"])
        self.during()
        if not self.broken:
            read({"choices": [{"finish_reason": "stop"}]})

    def act(self, action: str, name: str) -> bool:
        file = Path(self.kept.folder, name)
        if action == "save":
            file.write_bytes(b"x" * self.size)
        elif not file.exists():
            self.log.append("in vain")
            return False
        self.log.append(action)
        return True


@pytest.fixture
def kept() -> Any:
    made = Heads()
    yield made
    made.close()


def head(name: str) -> MessageBlock:
    return MessageBlock([{"role": "system", "content": name}])


def restore(kept: Heads, name: str, port: FakePort) -> list[str]:
    """What ``port`` did to know the head."""
    port.log.clear()
    given: Any = port
    kept.restore(head(name), name, given, stop=lambda: False)
    return list(port.log)


def test_a_head_is_read_once_and_loaded_in_every_lane(kept: Heads) -> None:
    one, two = FakePort(kept), FakePort(kept)
    assert restore(kept, "a", one) == ["read a", "save"]
    assert restore(kept, "a", two) == restore(kept, "a", one) == ["restore"]


def test_what_cannot_be_loaded_is_read_again(kept: Heads) -> None:
    port = FakePort(kept)
    restore(kept, "a", port)
    for file in Path(kept.folder).iterdir():
        file.unlink()
    assert restore(kept, "a", port) == ["in vain", "read a", "save"]
    assert restore(kept, "a", port) == ["restore"]


def test_a_reading_that_failed_is_done_again(kept: Heads) -> None:
    port = FakePort(kept)
    port.broken = True
    assert restore(kept, "a", port) == ["read a"]
    port.broken = False
    assert restore(kept, "a", port) == ["read a", "save"]


def test_the_least_recently_used_is_thrown_out(kept: Heads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "_MOST_BYTES", 20)
    port = FakePort(kept, size=10)
    for name in ("a", "b", "a", "c"):
        restore(kept, name, port)
    assert len(list(Path(kept.folder).iterdir())) == 2
    assert restore(kept, "a", port) == ["restore"]
    assert restore(kept, "c", port) == ["restore"]
    assert restore(kept, "b", port) == ["read b", "save"]


def test_what_is_being_read_is_not_thrown_out(kept: Heads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "_MOST_BYTES", 15)
    begun, go_on = threading.Event(), threading.Event()
    slow = FakePort(kept, size=1, during=lambda: (begun.set(), go_on.wait(30)))
    reading = threading.Thread(target=restore, args=(kept, "slow", slow))
    reading.start()
    assert begun.wait(30)
    quick = FakePort(kept, size=10)
    restore(kept, "b", quick)
    restore(kept, "c", quick)  # throws something out, and the oldest is the one that is being read
    go_on.set()
    reading.join(30)
    assert restore(kept, "slow", quick) == ["restore"]


def test_only_what_was_answered_counts_as_read() -> None:
    made = Engine(Setup(Weights("none.gguf", None), lanes=1, threads=1, context=64))
    port: Any = FakePort(made._heads)
    text = "word " * 400
    messages = [{"role": "system", "content": "a"}, {"role": "user", "content": text}]

    def answer() -> list[str]:
        port.log.clear()
        made.answer(Job({"messages": messages}, head("a")), port)
        return list(port.log)

    assert answer() == ["read a", "save", "read a"]
    assert answer() == ["read a"], "it goes on where the same prompt ended"
    port.broken = True
    answer()
    assert answer() == ["restore", "read a"], "what was broken off may not have been read"
    port.broken = False
    assert answer() == ["restore", "read a"]
    made.stop()
