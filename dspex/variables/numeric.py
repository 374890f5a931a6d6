"""`Float` and `Int`: numbers between two bounds."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

from dspex.errors import DefinitionError
from dspex.variables.codec import Json
from dspex.variables.domain import MAX_CANDIDATES, Domain, plain_number
from dspex.variables.messages import shown

__all__ = ["Float", "Int", "is_finite"]


def _written(kind: str, low: Any, high: Any, log: Any, step: Any) -> str:
    keywords = "".join(
        f", {name}={value!r}" for name, value, usual in (("log", log, False), ("step", step, None)) if value != usual
    )
    return f"{kind}({low!r}, {high!r}{keywords})"


def is_finite(number: Any) -> bool:
    """Whether it is a number, and neither infinite, NaN nor True or False."""
    try:
        return not isinstance(number, bool) and isinstance(number, int | float) and math.isfinite(number)
    except OverflowError:  # an int beyond the floats
        return False


class Float(Domain[float]):
    """Real numbers from ``low`` to ``high``, both included.

    ``log=True`` samples them on a logarithmic scale (``low`` has to be above 0); ``step`` leaves only
    ``low``, ``low + step``, ... up to ``high``. Integers are accepted as values and become floats.

    Raises `DefinitionError` for bounds that are not finite numbers in order, and for ``log`` with ``step``.

    >>> Float(0.0, 1.0).validate(1)
    1.0
    >>> Float(0.0, 0.3, step=0.1).candidates()
    (0.0, 0.1, 0.2, 0.3)
    >>> Float(0, 1, log=True)
    Traceback (most recent call last):
    dspex.errors.DefinitionError: Float(0, 1, log=True): a log scale needs low above 0. Write \
Float(1e-05, 1, log=True).
    """

    __slots__ = ("_exact", "_steps", "high", "log", "low", "step")
    _example: ClassVar[str] = "Float(0.0, 1.0)"

    low: float
    high: float
    log: bool
    step: float | None
    _exact: tuple[Decimal, Decimal] | None
    _steps: int

    def __init__(self, low: float, high: float, *, log: bool = False, step: float | None = None) -> None:
        code = _written("Float", low, high, log, step)
        low, high = plain_number(low), plain_number(high)
        for name, bound in (("low", low), ("high", high)):
            if not is_finite(bound):
                raise DefinitionError(
                    f"{code}: {name} has to be a finite number, not {shown(bound)}. Write Float(0.0, 1.0)."
                )
        if low > high:
            raise DefinitionError(f"{code}: low is above high. Write {_written('Float', high, low, log, step)}.")
        if not isinstance(log, bool):
            raise DefinitionError(f"{code}: log has to be True or False, not {shown(log)}.")
        if log and step is not None:
            raise DefinitionError(
                f"{code}: log and step exclude each other. Write {_written('Float', low, high, log, None)} "
                f"or {_written('Float', low, high, False, step)}."
            )
        if log and low <= 0:
            raise DefinitionError(
                f"{code}: a log scale needs low above 0. Write {_written('Float', 1e-5, max(high, 1), log, None)}."
            )
        exact: tuple[Decimal, Decimal] | None = None
        steps = 0
        if step is not None:
            step = plain_number(step)
            if not is_finite(step) or step <= 0:
                raise DefinitionError(
                    f"{code}: step has to be a number above 0, not {shown(step)}. Write "
                    f"{_written('Float', low, high, False, 0.1)}."
                )
            step = float(step)
            # Decimals of the shortest repr, so that three steps of 0.1 are 0.3 and not 0.30000000000000004.
            exact = (Decimal(repr(float(low))), Decimal(repr(step)))
            count = (Decimal(repr(float(high))) - exact[0]) / exact[1]
            if count > 2**53:
                raise DefinitionError(
                    f"{code}: more steps than a float can tell apart. Leave step out, or make it larger."
                )
            steps = int(count)
        self._set(low=float(low) + 0.0, high=float(high) + 0.0, log=log, step=step, _exact=exact, _steps=steps)

    def validate(self, value: Any, *, name: str = "value") -> float:
        number = value
        if type(number) is not float:
            number = plain_number(number)
            if isinstance(number, bool) or not isinstance(number, int | float):
                self._refuse(name, value, self._fits())
            try:
                number = float(number)
            except OverflowError:
                self._refuse(name, value, self._fits())
        if not self.low <= number <= self.high:
            self._refuse(name, value, self._fits())
        if self.step is None:
            return number + 0.0  # no negative zero, which would be a second text for the same number
        index = round((number - self.low) / self.step)
        nearest = self._at(min(max(index, 0), self._steps))
        slack = max(self.step * 1e-9, 4 * math.ulp(max(abs(self.low), abs(self.high))))
        if abs(number - nearest) > slack:
            self._refuse(name, value, f"{self._fits()}; {nearest!r} is the nearest")
        return nearest

    def _at(self, index: int) -> float:
        assert self._exact is not None
        low, step = self._exact
        return min(float(low + index * step) + 0.0, self.high)

    def _fits(self) -> str:
        steps = f" in steps of {self.step!r}" if self.step is not None else ""
        return f"a number from {self.low!r} to {self.high!r}{steps}"

    def first(self) -> float:
        return self.low

    def size(self) -> int | float:
        if self.low == self.high:
            return 1
        return math.inf if self.step is None else self._steps + 1

    def sample(self, rng: random.Random) -> float:
        if self.step is not None:
            return self._at(rng.randrange(self._steps + 1))
        share = rng.random()
        if self.log:
            value = math.exp(math.log(self.low) * (1 - share) + math.log(self.high) * share)
        else:
            value = self.low * (1 - share) + self.high * share  # high - low may overflow
        return min(max(value, self.low), self.high) + 0.0

    def encode(self, value: float) -> Json:
        return float(value)

    def decode(self, json: Json) -> float:
        return self.validate(json, name="the saved value")

    def candidates(self) -> tuple[float, ...] | None:
        if self.low == self.high:
            return (self.low,)
        if self.step is None or self._steps >= MAX_CANDIDATES:
            return None
        return tuple(self._at(index) for index in range(self._steps + 1))

    def covers(self, other: Domain[Any]) -> bool:
        if isinstance(other, Float | Int) and self.step is None:
            return self.low <= other.low and other.high <= self.high
        values = other.candidates()
        return other == self if values is None else all(self.contains(value) for value in values)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        keywords: dict[str, Any] = {"log": True} if self.log else {}
        if self.step is not None:
            keywords["step"] = self.step
        return (self.low, self.high), keywords

    def _json(self) -> dict[str, Json]:
        return {"low": self.low, "high": self.high, "log": self.log, "step": self.step}

    @classmethod
    def _from_json(cls, json: Mapping[str, Any]) -> Float:
        return cls(json["low"], json["high"], log=json["log"], step=json["step"])


class Int(Domain[int]):
    """Whole numbers from ``low`` to ``high``, both included.

    ``log=True`` samples them on a logarithmic scale (``low`` has to be at least 1); ``step`` leaves only
    ``low``, ``low + step``, ... up to ``high``.

    Raises `DefinitionError` for bounds that are not whole numbers in order, and for ``log`` with ``step``.

    >>> Int(1, 9, step=4).candidates()
    (1, 5, 9)
    >>> Int(1, 5).validate("3", name="depth")
    Traceback (most recent call last):
    dspex.errors.StateError: depth = '3' (str) does not fit Int(1, 5): write a whole number from 1 to 5.
    """

    __slots__ = ("high", "log", "low", "step")
    _example: ClassVar[str] = "Int(1, 5)"

    low: int
    high: int
    log: bool
    step: int

    def __init__(self, low: int, high: int, *, log: bool = False, step: int = 1) -> None:
        code = _written("Int", low, high, log, None if step == 1 else step)
        low, high, step = plain_number(low), plain_number(high), plain_number(step)
        for name, bound in (("low", low), ("high", high)):
            if isinstance(bound, bool) or not isinstance(bound, int):
                raise DefinitionError(
                    f"{code}: {name} has to be a whole number, not {shown(bound)}. Write Int(1, 5), or "
                    f"Float(...) for numbers with a fraction."
                )
        if low > high:
            raise DefinitionError(f"{code}: low is above high. Write {_written('Int', high, low, log, None)}.")
        if not isinstance(log, bool):
            raise DefinitionError(f"{code}: log has to be True or False, not {shown(log)}.")
        if isinstance(step, bool) or not isinstance(step, int) or step < 1:
            raise DefinitionError(
                f"{code}: step has to be a whole number of at least 1, not {shown(step)}. Write "
                f"{_written('Int', low, high, False, 2)}."
            )
        if log and step != 1:
            raise DefinitionError(
                f"{code}: log and step exclude each other. Write {_written('Int', low, high, True, None)} or "
                f"{_written('Int', low, high, False, step)}."
            )
        if log and low < 1:
            raise DefinitionError(
                f"{code}: a log scale needs low of at least 1. Write {_written('Int', 1, max(high, 1), log, None)}."
            )
        if log and not is_finite(high):
            raise DefinitionError(f"{code}: a log scale ends where floats end. Write Int({low!r}, 10**300, log=True).")
        self._set(low=int(low), high=int(high), log=log, step=int(step))

    def validate(self, value: Any, *, name: str = "value") -> int:
        number = value
        if type(number) is not int:
            number = plain_number(number)
            if isinstance(number, bool) or not isinstance(number, int):
                self._refuse(name, value, self._fits())
            number = int(number)
        if not self.low <= number <= self.high or (number - self.low) % self.step:
            self._refuse(name, value, self._fits())
        return int(number)

    def _fits(self) -> str:
        steps = f" in steps of {self.step!r}" if self.step != 1 else ""
        return f"a whole number from {self.low!r} to {self.high!r}{steps}"

    def first(self) -> int:
        return self.low

    def size(self) -> int:
        return (self.high - self.low) // self.step + 1

    def sample(self, rng: random.Random) -> int:
        if not self.log:
            return self.low + self.step * rng.randrange(self.size())
        # Half a unit wider at both ends, so that rounding gives each end its share.
        share = rng.random()
        value = math.exp(math.log(self.low - 0.5) * (1 - share) + math.log(self.high + 0.5) * share)
        return min(max(round(value), self.low), self.high)

    def encode(self, value: int) -> Json:
        return int(value)

    def decode(self, json: Json) -> int:
        return self.validate(json, name="the saved value")

    def candidates(self) -> tuple[int, ...] | None:
        if self.size() > MAX_CANDIDATES:
            return None
        return tuple(range(self.low, self.high + 1, self.step))

    def covers(self, other: Domain[Any]) -> bool:
        if isinstance(other, Int) and (
            self.step == 1 or (other.step % self.step == 0 and (other.low - self.low) % self.step == 0)
        ):
            return self.low <= other.low and other.high <= self.high
        values = other.candidates()
        return other == self if values is None else all(self.contains(value) for value in values)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        keywords: dict[str, Any] = {"log": True} if self.log else {}
        if self.step != 1:
            keywords["step"] = self.step
        return (self.low, self.high), keywords

    def _json(self) -> dict[str, Json]:
        return {"low": self.low, "high": self.high, "log": self.log, "step": self.step}

    @classmethod
    def _from_json(cls, json: Mapping[str, Any]) -> Int:
        return cls(json["low"], json["high"], log=json["log"], step=json["step"])
