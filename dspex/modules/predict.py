"""`Predict`: one question to a model, with everything about it a variable."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from dspex.adapters import Adapter, adapter_named
from dspex.callbacks.observed import Observed
from dspex.data import Example, Prediction
from dspex.errors import DataError, DefinitionError, LMRequestError, ParseError
from dspex.execution import TraceEntry
from dspex.execution.settings import checked_policy
from dspex.lm import BaseLM
from dspex.lm.flow import seeded, seeded_params
from dspex.lm.named import lm_named
from dspex.lm.sampling import check_params, warn_truncated
from dspex.modules.flow import Flow, Generate
from dspex.modules.module import Module
from dspex.modules.render import RenderRun, placeholder, predictor_at
from dspex.signatures import Signature, ensure_signature
from dspex.variables import (
    Choice,
    Demos,
    Domain,
    Float,
    Handle,
    Int,
    ModelChoice,
    Prompt,
    Variable,
    set_tunable,
    variable,
)
from dspex.variables.messages import shown

if TYPE_CHECKING:
    from dspex.adapters import Reading
    from dspex.data import Usage
    from dspex.execution import Run, Settings
    from dspex.lm import LMRequest, LMResponse
    from dspex.modules.listening import Reader

__all__ = ["Predict"]

_ARGUMENTS = (
    "instructions",
    "demos",
    "cache",
    "temperature",
    "max_tokens",
    "model",
    "adapter",
    "reasks",
    "lm",
    "signature",
)
_BOUND = frozenset(_ARGUMENTS) - {"lm", "cache", "signature"}
_NO_PARAMETERS = frozenset(_ARGUMENTS) - {"temperature", "max_tokens"}
_NO_CONFIG: Mapping[str, Any] = MappingProxyType({})


class Predict(Module):
    """Asks a model to fill a signature's outputs from its inputs.

    ``instructions`` and ``demos`` are searched by default, the rest once opened. Each argument takes a value
    (which fixes it), a `Domain` (which opens it to the search) or a variable (which links it).

    Args:
        signature: ``"question -> answer: int"`` or a `Signature` class; its instructions are the start value
            of the variable ``instructions``.
        instructions: what to do; a `Prompt` domain keeps it open.
        demos: worked examples shown before the question.
        temperature: of the sampling; None is the model's own setting.
        max_tokens: of the answer; None is the model's own setting.
        model: a name such as ``"openai/gpt-4o-mini"``; None is the model of ``dspex.configure(lm=...)``.
        adapter: ``"chat"``, ``"json"``, ``"xml"``, ``"compact"``, ``"lines"`` or ``"two_step"``, or an `Adapter`;
            None is the configured one, else chat.
        reasks: how often, at most, an answer that cannot be read goes back to the model with what is wrong with
            it. An answer that is repaired locally never does.
        lm: a model object for this predictor alone; ``model`` comes before it.
        n: completions per call; the prediction's fields are the first one's.
        cache: what its calls do with the model's cache, such as ``"off"`` or ``"refresh"`` (see `dspex.execution.
            Settings`); None leaves it to ``dspex.context(cache=...)`` and the model.
        params: further parameters of the call, such as ``top_p=0.9``.

    A call may say its own parameters by ``config``, where that is no input: ``predict(question=..., config={
    "temperature": 1.0, "rollout_id": 1})`` asks for another answer than the one of ``rollout_id`` 0 in the cache.

    Raises:
        DefinitionError: a signature that does not parse, or an argument outside its variable's domain.

    Example:
        >>> import dspex
        >>> qa = dspex.Predict("question -> answer: int", temperature=dspex.Float(0.0, 1.0))
        >>> qa.space().tunable
        ('instructions', 'demos', 'temperature')
        >>> with dspex.context(lm=dspex.MockLM([{"answer": 4}])):
        ...     qa(question="2 + 2?").answer
        4
    """

    instructions: Variable[str] = variable(Prompt(), default="", doc="what the model is told to do")
    demos: Variable[tuple[Any, ...]] = variable(Demos(), default=(), doc="worked examples shown first")
    temperature: Variable[float | None] = variable(
        Float(0.0, 2.0), default=None, tunable=False, doc="of the sampling; None: the model's own"
    )
    max_tokens: Variable[int | None] = variable(
        Int(1, 1_000_000), default=None, tunable=False, doc="of the answer; None: the model's own"
    )
    model: Variable[str | None] = variable(
        ModelChoice(), default=None, tunable=False, doc="the model's name; None: the configured one"
    )
    adapter: Variable[str | None] = variable(
        Choice("chat", "json", "xml", "compact", "lines", "two_step"),
        default=None,
        tunable=False,
        doc="how it is asked; None: the configured one",
    )

    reasks: Variable[int] = variable(
        Int(0, 5), default=0, tunable=False, doc="how often an answer that cannot be read is asked for again"
    )

    signature: type[Signature]
    _is_predictor: ClassVar[bool] = True
    _without_modules: ClassVar[frozenset[str]] = frozenset({"signature", "lm", "n", "cache", "params", "_own_adapter"})

    def __init__(
        self,
        signature: str | type[Signature],
        *,
        instructions: str | Domain[str] | Variable[str] | None = None,
        demos: Iterable[Example | Mapping[str, Any]] | Domain[Any] | Variable[Any] | None = None,
        temperature: float | Domain[float] | Variable[Any] | None = None,
        max_tokens: int | Domain[int] | Variable[Any] | None = None,
        model: str | Domain[str] | Variable[Any] | None = None,
        adapter: str | Adapter | Domain[str] | Variable[Any] | None = None,
        reasks: int | Domain[int] | Variable[Any] | None = None,
        lm: BaseLM | None = None,
        n: int = 1,
        cache: bool | str | None = None,
        **params: Any,
    ) -> None:
        for name in params:
            close = difflib.get_close_matches(name, _ARGUMENTS, n=1, cutoff=0.75)
            if close:
                raise DefinitionError(
                    f"Predict takes no {name}={params[name]!r}; did you mean {close[0]}=? (What is not an argument of "
                    "Predict goes to the model with each call, such as top_p=0.9.)"
                )
        self.signature = ensure_signature(signature)
        self.lm = _checked_model(lm)
        self.n = _checked_count(n)
        self.cache = None if cache is None else checked_policy(cache)
        check_params(params)
        self.params = params
        self._own_adapter = adapter if isinstance(adapter, Adapter) else None
        self.instructions = self.signature.instructions
        given = {
            "instructions": instructions,
            "demos": _as_tuple(demos),
            "temperature": temperature,
            "max_tokens": max_tokens,
            "model": model,
            "adapter": None if self._own_adapter is not None else adapter,
            "reasks": reasks,
        }
        for name, value in given.items():
            if value is not None:
                setattr(self, name, value)
                if not isinstance(value, Domain | Variable):
                    set_tunable(self, getattr(Predict, name), False)
            elif isinstance(own := getattr(type(self), name), Variable):
                self.__dict__.setdefault(name, own.default)  # where `flow` finds it without asking the class

    def flow(self, *args: Any, **inputs: Any) -> Flow:
        """Ask the model and read its answer; ask further as far as the adapter or ``reasks`` says.

        Raises:
            DataError: an input is missing, is not one of the signature's, or is no value of its type.
            ParseError: the answer does not fit the outputs, after local repair.
            LMError: the model gave no answer.
        """
        signature = self.signature
        config: Mapping[str, Any] = _NO_CONFIG
        if args or inputs.keys() != signature.input_fields.keys():
            if "config" in inputs and "config" not in signature.input_fields:
                config = self._checked_config(inputs.pop("config"))
            self._check_inputs(args, inputs)
        run: Run = self._run  # type: ignore[assignment]  # a flow is only ever driven within a run
        dry = run if isinstance(run, RenderRun) else None
        if dry is None or not dry.rendering:  # after the first predictor of a dry run, it may be a placeholder
            for name, check in signature.input_checks:
                if name in inputs and (wrong := check(inputs[name])):
                    raise self._misfit(name, inputs[name], wrong)
        if dry is not None:
            dry.rendering[self._path] = self._request(
                dry.lm(), self._adapter(run.settings), inputs, run, config
            ).messages
            return placeholder(signature)
        lm = self._lm(run.settings)
        adapter = self._adapter(run.settings)
        if run.observers:
            with _adapting(adapter, "request", run, self._path, dict(inputs)) as span:
                span.outputs = request = self._request(lm, adapter, inputs, run, config)
        else:
            request = self._request(lm, adapter, inputs, run, config)
        asked = Generate(lm, request, self._path)
        reader: Reader | None = None
        if run.sink is not None:
            reader = run.sink.reader(self._path, adapter, signature)
            if isinstance(lm, BaseLM) and not adapter.follows_up:  # when it does, the first answer has no fields
                asked.reader = reader
        response = yield asked
        reasks = self._value("reasks")
        spent = [response]
        try:
            completions: list[dict[str, Any]] = []
            for one in response.completions:  # a comprehension would make cells, which every read here goes through
                if reasks or adapter.follows_up or run.observers:
                    steps = adapter.reading(signature, request, one, lm=lm, reasks=reasks)
                    with _adapting(adapter, "read", run, self._path, {"completion": one}) as span:
                        first = None if completions else reader  # the others are not shown
                        span.outputs = values = yield from _followed(steps, run, spent, self._path, first)
                    completions.append(values)
                else:
                    completions.append(adapter.read(signature, one, request))
        except ParseError as error:
            error.add_note(f"in {self._where}, answered by {response.model}")
            if spent[-1].truncated:
                error.add_note("the answer was cut off where max_tokens ended it; give it more of them")
            run.record(
                TraceEntry(
                    self._path,
                    inputs,
                    signature=signature,
                    usage=_usage(spent),
                    error=f"{type(error).__name__}: {error}",
                )
            )
            raise
        if reader is not None:
            reader.settle(completions[0])
        usage, latency = response.usage, response.latency
        if len(spent) > 1:
            usage, latency = _usage(spent), sum(one.latency for one in spent)
        truncated = spent[-1].truncated
        if truncated:
            params = {**getattr(lm, "params", {}), **request.params}
            warn_truncated(f"{response.model} to {self._where}", params, "Predict(..., max_tokens=...)")
        prediction = Prediction.from_fields(
            completions[0],
            completions=completions if len(completions) > 1 else None,
            usage=usage,
            latency=latency,
            truncated=truncated,
        )
        run.record(TraceEntry(self._path, inputs, prediction=prediction, signature=signature, usage=usage))
        return prediction

    def prepare(self, settings: Settings) -> None:
        """Load what its first call under ``settings`` would load, and render what its prompts share; calls nothing."""
        lm: Any = self._lm(settings)
        if isinstance(lm, BaseLM):  # settings take whatever can generate
            lm.prepare()
        adapter = self._adapter(settings)
        adapter.prepare(self.signature, self._value("instructions"), self._value("demos"))

    def _lm(self, settings: Settings) -> BaseLM:
        chosen = self._value("model")
        if chosen is not None:
            return lm_named(chosen) if isinstance(chosen, str) else chosen
        lm: BaseLM | None = self.lm or settings.lm
        if lm is None:
            raise LMRequestError(
                f"{self._where} has no model to ask.\n"
                '  right:  dspex.configure(lm=dspex.LM("local/smollm2-135m"))  # once, for the process\n'
                '  right:  Predict(..., model="openai/gpt-4o-mini")            # or for this predictor'
            )
        return lm

    def _adapter(self, settings: Settings) -> Adapter:
        name = self._value("adapter")
        if name is None:
            found: Adapter | None = self._own_adapter or settings.adapter
            if found is not None:
                return found
        return adapter_named(name or "chat")

    def _request(
        self, lm: BaseLM | None, adapter: Adapter, inputs: Mapping[str, Any], run: Run, config: Mapping[str, Any]
    ) -> LMRequest:
        temperature, max_tokens = self._value("temperature"), self._value("max_tokens")
        params: Mapping[str, Any] = self.params
        n = self.n
        if temperature is not None or max_tokens is not None or n != 1 or config:
            own = dict(params)
            if temperature is not None:
                own["temperature"] = temperature
            if max_tokens is not None:
                own["max_tokens"] = max_tokens
            if n != 1:
                own["n"] = n
            own.update(config)
            params = own
        if run.seed is not None and lm is not None:
            params = seeded_params(lm, params, run.seed)
        request = adapter.request(
            self.signature,
            instructions=self._value("instructions"),
            demos=self._value("demos"),
            inputs=inputs,
            capabilities=frozenset() if lm is None else lm.capabilities,
            params=params,
            rollout_id=run.rollout_id,
        )
        if self.cache is not None:
            request.cache = self.cache  # it was made just now, so nobody else has it
        return request

    def _value(self, name: str) -> Any:
        # In a run nearly every variable has its value in the instance; asking the class's descriptor, which
        # would find it there too, costs several times as much.
        try:
            return self.__dict__[name]
        except KeyError:
            return getattr(self, name)

    def _misfit(self, name: str, value: Any, wrong: str) -> DataError:
        field = self.signature.input_fields[name]
        kind = field.type_name
        if value is None:
            other = f"{name}: {kind} | None  # where it may be unknown"
        elif field.constraints:
            other = f"{name}: {kind} = InputField()  # without the constraint"
        else:
            other = f"{name}: str  # takes whatever has a plain form, as it is shown to the model"
        return DataError(
            f"{self._where} was given `{name}={shown(value)}`, which does not fit `{name}: {kind}`: {wrong}.\n"
            f"  right:  predict({name}=...)  # {', '.join(filter(None, (kind, field.constraint_text)))}\n"
            f"  right:  {other}"
        )

    @property
    def _where(self) -> str:
        return predictor_at(self._path)

    def _checked_config(self, config: Any) -> Mapping[str, Any]:
        inputs = ", ".join(f"{name}=..." for name in self.signature.input_fields)
        if not isinstance(config, Mapping):
            raise DataError(
                f"config of {self._where} must be a dict of parameters for this call, got {shown(config)}.\n"
                f'  right:  predict({inputs}, config={{"temperature": 1.0, "rollout_id": 1}})'
            )
        other = next((name for name in config if name in _NO_PARAMETERS), None)
        if other is not None:
            raise DataError(
                f"config of {self._where} has {other!r}, which is no parameter of the model's call."
                f"{_for_one_call(other, inputs)}"
            )
        check_params(config)
        return config

    def _check_inputs(self, args: tuple[Any, ...], inputs: Mapping[str, Any]) -> None:
        wanted = ", ".join(f"{name}=..." for name in self.signature.input_fields)
        if args:
            raise DataError(
                f"{self._where} was called with the positional value {args[0]!r}; its inputs have names.\n"
                f"  right:  predict({wanted})"
            )
        missing = [name for name, field in self.signature.input_fields.items() if field.required and name not in inputs]
        if missing:
            raise DataError(
                f"{self._where} needs the input `{missing[0]}`, which was not given.\n  right:  predict({wanted})"
            )
        extra = [name for name in inputs if name not in self.signature.input_fields]
        if extra:
            raise DataError(
                f"{self._where} was given `{extra[0]}={inputs[extra[0]]!r}`, which is no input of "
                f"`{self.signature.spec}`.\n  right:  predict({wanted}){_for_one_call(extra[0], wanted)}"
            )


def _for_one_call(name: str, inputs: str) -> str:
    """How to give a call what is no input: by a copy with other values, or a context."""
    if name == "cache":
        return f"\n  right:  with dspex.context(cache=...): predict({inputs})  # for the calls in it"
    # A predictor with a model of its own asks that, whatever the context has.
    name = "model" if name == "lm" else name
    return f'\n  right:  predict.bind({{"{name}": ...}})({inputs})  # a copy with that value' if name in _BOUND else ""


def _adapting(adapter: Adapter, step: str, run: Run, path: str, inputs: dict[str, Any]) -> Observed:
    name = f"{type(adapter).__name__}.{step}"
    return Observed(run.observers, "adapter", name, path=path, inputs=inputs, root=run.span)


def _followed(steps: Reading, run: Run, spent: list[LMResponse], path: str, reader: Reader | None) -> Flow:
    """The outputs that ``steps`` lead to; the responses on the way are added to ``spent``, and shown by ``reader``."""
    try:
        ask = next(steps)
        while True:
            request = ask.request if run.seed is None else seeded(ask.lm, ask.request, run.seed)
            response = yield Generate(ask.lm, request, path, reader)
            spent.append(response)
            ask = steps.send(response.completions[0])
    except StopIteration as stop:
        return stop.value


def _usage(spent: list[LMResponse]) -> Usage:
    total = spent[0].usage
    for response in spent[1:]:
        total = total + response.usage
    return total


def _as_tuple(demos: Any) -> Any:
    """Demos from any iterable of them; what is none of theirs is refused by the variable."""
    given = isinstance(demos, Iterable) and not isinstance(demos, str | Mapping | Domain | Handle)
    return tuple(demos) if given else demos


def _checked_model(lm: Any) -> BaseLM | None:
    if lm is None or isinstance(lm, BaseLM):
        return lm
    name = lm if isinstance(lm, str) else "openai/gpt-4o-mini"
    raise DefinitionError(
        f"lm of Predict must be a model object, got {shown(lm)}.\n"
        f"  right:  Predict(..., lm=dspex.LM({name!r}))\n"
        f"  right:  Predict(..., model={name!r})  # by its name, which can be searched and saved"
    )


def _checked_count(n: Any) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise DefinitionError(f"n of Predict must be a whole number from 1 on, got {shown(n)}; write Predict(..., n=3)")
    return n
