"""`Bool`, `Choice` and `ModelChoice`: one of a few named values."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn, TypeVar

from dspex.errors import DefinitionError, StateError
from dspex.variables.codec import Json
from dspex.variables.domain import MAX_CANDIDATES, Domain, plain_number
from dspex.variables.messages import did_you_mean, shown
from dspex.variables.options import Options, option_from_json

__all__ = ["Bool", "Choice", "ModelChoice"]

T = TypeVar("T")


class Bool(Domain[bool]):
    """True or False; False comes first.

    >>> Bool().candidates()
    (False, True)
    """

    __slots__ = ()
    _example: ClassVar[str] = "Bool()"

    def validate(self, value: Any, *, name: str = "value") -> bool:
        if value is True or value is False:
            return bool(value)
        number = plain_number(value)
        if number is not True and number is not False:
            self._refuse(name, value, "True or False")
        return bool(number)

    def first(self) -> bool:
        return False

    def size(self) -> int:
        return 2

    def sample(self, rng: random.Random) -> bool:
        return rng.random() < 0.5

    def encode(self, value: bool) -> Json:
        return bool(value)

    def decode(self, json: Json) -> bool:
        return self.validate(json, name="the saved value")

    def candidates(self) -> tuple[bool, ...] | None:
        return (False, True)

    def covers(self, other: Domain[Any]) -> bool:
        values = other.candidates()
        return values is not None and all(self.contains(value) for value in values)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {}

    def _json(self) -> dict[str, Json]:
        return {}

    @classmethod
    def _from_json(cls, json: Mapping[str, Any]) -> Bool:
        return cls()


class Choice(Domain[T]):
    """One of the given options, which are told apart by value and type; None may be one of them.

    Options are plain values, or any hashable objects such as functions, classes and enum members (see
    `dspex.variables.options` for how those are saved). Lists and dicts are handed out read-only, since all
    programs read the same option: ``list(value)`` is one to change.

    Raises `DefinitionError` without options, for an option that stands there twice, and for one that could
    not be saved.

    >>> Choice("plain", "warm").first()
    'plain'
    >>> Choice("plain", "warm").validate("wram", name="tone")
    Traceback (most recent call last):
    dspex.errors.StateError: tone = 'wram' (str) does not fit Choice('plain', 'warm'): write one of \
its options. Did you mean 'warm'?
    """

    __slots__ = ("_options",)
    _example: ClassVar[str] = "Choice('plain', 'warm')"

    _options: Options

    def __init__(self, *options: T) -> None:
        if not options:
            raise DefinitionError("Choice(): no options to choose from. Write Choice('plain', 'warm').")
        if len(options) == 1 and isinstance(options[0], list | set | frozenset) and options[0]:
            listed = ", ".join(map(repr, options[0]))
            raise DefinitionError(
                f"Choice({options[0]!r}): a single option that is a collection. Write the options "
                f"themselves: Choice({listed}), or Choice(*options)."
            )
        self._set(_options=Options("Choice", options))

    @property
    def options(self) -> tuple[T, ...]:
        """The options in declared order."""
        return self._options.values

    def index(self, value: Any) -> int:
        """Return the position of ``value`` among the options; raises `StateError` when it is none of them.

        >>> Choice("plain", "warm").index("warm")
        1
        """
        position = self._options.find(value)
        if position is None:
            self._refuse_option("value", value)
        return position

    def validate(self, value: Any, *, name: str = "value") -> T:
        position = self._options.find(value)
        if position is None:
            position = self._options.find(plain_number(value))
        if position is None:
            self._refuse_option(name, value)
        option: T = self._options.values[position]
        return option

    def _refuse_option(self, name: str, value: Any) -> NoReturn:
        texts = [option for option in self._options.values if isinstance(option, str)]
        hint = did_you_mean(value, texts) if isinstance(value, str) else ""
        self._refuse(name, value, "one of its options", hint=hint)

    def first(self) -> T:
        option: T = self._options.values[0]
        return option

    def size(self) -> int:
        return len(self._options.values)

    def sample(self, rng: random.Random) -> T:
        option: T = self._options.values[rng.randrange(len(self._options.values))]
        return option

    def encode(self, value: T) -> Json:
        return self._options.encode(self.index(value))

    def decode(self, json: Json) -> T:
        position = self._options.find_encoded(json)
        if position is None:
            self._refuse("the saved value", json, "one of its options")
        option: T = self._options.values[position]
        return option

    def candidates(self) -> tuple[T, ...] | None:
        return self.options if len(self._options.values) <= MAX_CANDIDATES else None

    def covers(self, other: Domain[Any]) -> bool:
        values = other.options if isinstance(other, Choice) else other.candidates()
        return values is not None and all(self._options.find(value) is not None for value in values)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return self._options.values, {}

    def _json(self) -> dict[str, Json]:
        return {"options": self._options.to_json()}

    @classmethod
    def _from_json(cls, json: Mapping[str, Any]) -> Choice[Any]:
        return cls(*map(option_from_json, json["options"]))


class ModelChoice(Domain[T]):
    """One of the given language models, as names (``"provider/model"``) or as LM objects.

    An LM object is known by its ``model`` name, under which it is saved; its name is accepted as a value too
    and gives the object. ``ModelChoice()`` without models fits any model and leaves nothing to search: it is
    the domain of a variable that a value fixes, or that another `ModelChoice` opens.

    Raises `DefinitionError` for what is neither, and for two models of one name.

    >>> ModelChoice("openai/gpt-4o-mini", "local/smollm2-135m").first()
    'openai/gpt-4o-mini'
    >>> ModelChoice().validate("openai/gpt-4o-mini")
    'openai/gpt-4o-mini'
    """

    __slots__ = ("_by_name", "models")
    _example: ClassVar[str] = "ModelChoice('openai/gpt-4o-mini', 'local/smollm2-135m')"

    models: tuple[T, ...]
    _by_name: dict[str, T]

    def __init__(self, *models: T) -> None:
        by_name: dict[str, T] = {}
        for model in models:
            name = _model_name(model)
            if name is None:
                raise DefinitionError(
                    f"ModelChoice(...): {shown(model)} is no model. Write a name such as "
                    f"'openai/gpt-4o-mini', or an LM object."
                )
            if name in by_name:
                raise DefinitionError(
                    f"ModelChoice(...): two models are called {name!r}. Name each model once; other settings "
                    f"of the same model (a temperature, say) are variables of their own."
                )
            by_name[name] = model
        self._set(models=tuple(models), _by_name=by_name)

    @property
    def options(self) -> tuple[T, ...]:
        """The models in declared order."""
        return self.models

    def index(self, value: Any) -> int:
        """Return the position of a model, or of its name; raises `StateError` when it is none of them."""
        return list(self._by_name).index(str(_model_name(self.validate(value))))

    def validate(self, value: Any, *, name: str = "value") -> T:
        known = _model_name(value)
        if known is None:
            self._refuse(name, value, "a model's name such as 'openai/gpt-4o-mini', or an LM object")
        if not self._by_name:
            free: T = value
            return free
        model = self._by_name.get(known)
        # An LM object with settings of its own is not the model of that name.
        if model is None or not (isinstance(value, str) or value == model):
            hint = did_you_mean(known, self._by_name) if model is None else ""
            self._refuse(name, value, "one of its models", hint=hint)
        return model

    def first(self) -> T:
        if not self.models:
            raise StateError("ModelChoice() lists no models and so has no first one. Write default=None beside it.")
        return self.models[0]

    def size(self) -> int | float:
        return len(self.models) or float("inf")

    def sample(self, rng: random.Random) -> T:
        if not self.models:
            raise StateError(
                "ModelChoice() lists no models to draw from. Write ModelChoice('openai/gpt-4o-mini', ...)."
            )
        return self.models[rng.randrange(len(self.models))]

    def encode(self, value: T) -> Json:
        return _model_name(value)

    def decode(self, json: Json) -> T:
        return self.validate(json, name="the saved value")

    def candidates(self) -> tuple[T, ...] | None:
        return self.models or None

    def covers(self, other: Domain[Any]) -> bool:
        if not self.models:
            return isinstance(other, ModelChoice) or all(
                _model_name(value) is not None for value in other.candidates() or (None,)
            )
        values = other.candidates()
        return values is not None and all(self.contains(value) for value in values)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return self.models, {}

    def _json(self) -> dict[str, Json]:
        return {"models": list(self._by_name)}

    @classmethod
    def _from_json(cls, json: Mapping[str, Any]) -> ModelChoice[Any]:
        return cls(*json["models"])


def _model_name(model: object) -> str | None:
    name = model if isinstance(model, str) else getattr(model, "model", None)
    return name if isinstance(name, str) and name.strip() and not isinstance(model, type) else None
