"""`Prompt` and `Demos`: values that nobody can list, searched through a `Pool` of candidates."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from dspex.errors import DefinitionError, StateError
from dspex.variables import codec
from dspex.variables.codec import Json
from dspex.variables.domain import Domain
from dspex.variables.messages import shown
from dspex.variables.readonly import read_only

__all__ = ["Demos", "Prompt"]

T = TypeVar("T")


class _OpenEnded(Domain[T]):
    """What the open-ended domains have in common: infinitely many values, and none can be drawn."""

    __slots__ = ()

    open_ended: ClassVar[bool] = True

    def size(self) -> float:
        return math.inf

    def sample(self, rng: random.Random) -> T:
        raise StateError(
            f"{self!r} is open-ended, so no value can be drawn from it. Draw from a Pool of candidates "
            f"instead: space.sample(rng, pools={{path: pool}})."
        )

    def candidates(self) -> tuple[T, ...] | None:
        return None


class Prompt(_OpenEnded[str]):
    """Any text, of at most ``max_chars`` characters: an instruction, a template, a description.

    Raises `DefinitionError` for a limit that is not a whole number above 0.

    >>> Prompt(max_chars=12).validate("Be brief.")
    'Be brief.'
    """

    __slots__ = ("max_chars",)
    _example: ClassVar[str] = (
        "variable(Prompt(), default='Be brief.') for a text to begin with, or Prompt(max_chars=2000) for a limit"
    )

    max_chars: int | None

    def __init__(self, *, max_chars: int | None = None) -> None:
        _check_limit("Prompt", "max_chars", max_chars, 2000)
        self._set(max_chars=max_chars)

    def validate(self, value: Any, *, name: str = "value") -> str:
        if not isinstance(value, str):
            self._refuse(name, value, self._fits())
        if self.max_chars is not None and len(value) > self.max_chars:
            self._refuse(name, value, f"{self._fits()} (this has {len(value)})")
        return value if type(value) is str else str.__str__(value)

    def _fits(self) -> str:
        return "a string" if self.max_chars is None else f"a string of at most {self.max_chars} characters"

    def first(self) -> str:
        return ""

    def encode(self, value: str) -> Json:
        return value

    def decode(self, json: Json) -> str:
        return self.validate(json, name="the saved value")

    def covers(self, other: Domain[Any]) -> bool:
        if isinstance(other, Prompt):
            return self.max_chars is None or (other.max_chars is not None and other.max_chars <= self.max_chars)
        values = other.candidates()
        return values is not None and all(self.contains(value) for value in values)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {} if self.max_chars is None else {"max_chars": self.max_chars}

    def _json(self) -> dict[str, Json]:
        return {"max_chars": self.max_chars}

    @classmethod
    def _from_json(cls, json: Mapping[str, Any]) -> Prompt:
        return cls(max_chars=json["max_chars"])


class Demos(_OpenEnded[tuple[Any, ...]]):
    """Worked examples, at most ``max_demos`` of them: a tuple of Examples (or of plain mappings).

    ``max_demos=None`` sets no limit. What may stand in it is what the codec knows: registered types such as
    Example, and mappings of plain values, which become read-only dicts.

    Raises `DefinitionError` for a limit that is not a whole number above 0.

    >>> Demos(max_demos=2).validate([{"question": "1+1", "answer": "2"}])
    ({'question': '1+1', 'answer': '2'},)
    """

    __slots__ = ("max_demos",)
    _example: ClassVar[str] = (
        "variable(Demos(), default=[Example(...)]) for demos to begin with, or Demos(max_demos=4) for a limit"
    )

    max_demos: int | None

    def __init__(self, *, max_demos: int | None = 16) -> None:
        _check_limit("Demos", "max_demos", max_demos, 16)
        self._set(max_demos=max_demos)

    def validate(self, value: Any, *, name: str = "value") -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            self._refuse(name, value, self._fits())
        if self.max_demos is not None and len(value) > self.max_demos:
            self._refuse(name, value, f"{self._fits()} (this has {len(value)})")
        for position, item in enumerate(value):
            if not (codec.is_registered(type(item)) or isinstance(item, Mapping)):
                raise StateError(
                    f"{name}[{position}] = {shown(item)} is no demo: write an Example such as "
                    f"Example(question='1+1?', answer='2'), or a mapping of plain values."
                )
        return tuple([item if codec.is_registered(type(item)) else read_only(dict(item)) for item in value])

    def _fits(self) -> str:
        return "a tuple of Examples" if self.max_demos is None else f"a tuple of at most {self.max_demos} Examples"

    def first(self) -> tuple[Any, ...]:
        return ()

    def encode(self, value: tuple[Any, ...]) -> Json:
        return [codec.encode(item) for item in value]

    def decode(self, json: Json) -> tuple[Any, ...]:
        if not isinstance(json, list):
            self._refuse("the saved value", json, "a list of encoded Examples")
        return self.validate([codec.decode(item) for item in json], name="the saved value")

    def covers(self, other: Domain[Any]) -> bool:
        if isinstance(other, Demos):
            return self.max_demos is None or (other.max_demos is not None and other.max_demos <= self.max_demos)
        values = other.candidates()
        return values is not None and all(self.contains(value) for value in values)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {} if self.max_demos == 16 else {"max_demos": self.max_demos}

    def _json(self) -> dict[str, Json]:
        return {"max_demos": self.max_demos}

    @classmethod
    def _from_json(cls, json: Mapping[str, Any]) -> Demos:
        return cls(max_demos=json["max_demos"])


def _check_limit(kind: str, name: str, limit: Any, example: int) -> None:
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise DefinitionError(
            f"{kind}({name}={limit!r}): {name} has to be a whole number above 0, not {shown(limit)}. Write "
            f"{kind}({name}={example})."
        )
