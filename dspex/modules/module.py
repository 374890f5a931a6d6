"""`Module`: the base of every program, written from scratch around declared variables.

Three ideas carry it:

* **A class declares, an instance has a tree.** Variables are class attributes made by ``variable(...)``;
  modules held in attributes, lists and dicts are the tree. Nothing is registered and no
  ``super().__init__()`` is needed: the tree is read from the object when it is asked for.
* **A call is a bind.** Calling a program copies its modules structurally (microseconds), attaches a fresh
  `Run` to the copy and runs that. Two calls never touch each other, on any mix of threads and tasks; an
  assignment to ``self`` inside ``forward`` is local to its run. What should outlive a run belongs in an
  object that the module holds, which all copies share.
* **Optimizers change states, never programs.** ``program.bind(state)`` is another program.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from dspex.errors import DefinitionError, StateError
from dspex.execution import Run, active_run, current, in_thread, run_blocking
from dspex.execution.active import activate, deactivate
from dspex.execution.outcome import LONGEST_GRACE
from dspex.modules.display import describe, tree
from dspex.modules.flow import adrive, drive
from dspex.modules.layout import INTERNAL, Layout, discover
from dspex.modules.listening import joined_path
from dspex.modules.observing import aobserved, measured, observed
from dspex.modules.render import Rendering, RenderRun
from dspex.modules.saving import load_program, save_program
from dspex.modules.streaming import Streaming
from dspex.modules.wiring import Wiring, enclosing_value
from dspex.variables import (
    Condition,
    Domain,
    Handle,
    Space,
    Variable,
    VariableState,
    check_declarations,
    declared,
    set_tunable,
)

if TYPE_CHECKING:
    from os import PathLike

    from rich.tree import Tree

    from dspex.modules.events import StreamEvent
    from dspex.modules.predict import Predict

__all__ = ["Module"]

ModuleT = TypeVar("ModuleT", bound="Module")

_stamps = itertools.count()
_new = object.__new__
_set = object.__setattr__


class Module:
    """A program, or a part of one. Subclass it, declare variables, hold modules, write ``forward``.

    ``forward`` may be sync or async; written as a generator named ``flow`` instead (see
    `dspex.modules.flow`), one body serves both. Call the program, not ``forward``: ``program(question=...)``
    blocks, ``await program.acall(question=...)`` does not.

    Example:
        >>> import dspex
        >>> from dspex.variables import Choice
        >>> class Greeter(dspex.Module):
        ...     tone = dspex.variable(Choice("plain", "warm"), default="plain")
        ...     def __init__(self):
        ...         self.answer = dspex.Predict("name, tone -> greeting")
        ...     def forward(self, name):
        ...         return self.answer(name=name, tone=self.tone)
        >>> program = Greeter()
        >>> program.space().tunable
        ('tone', 'answer.instructions', 'answer.demos')
        >>> warm = program.bind({"tone": "warm"})
        >>> warm.tone, program.tone
        ('warm', 'plain')
        >>> with dspex.context(lm=dspex.MockLM([{"greeting": "Hello, dear Ada!"}])):
        ...     warm(name="Ada").greeting
        'Hello, dear Ada!'
    """

    _variable_at_own_path: ClassVar[str | None] = None
    _kind: ClassVar[str] = "none"
    _is_predictor: ClassVar[bool] = False
    _without_modules: ClassVar[frozenset[str]] = frozenset()  # attributes of built-in modules, not looked into
    _templates: ClassVar[tuple[str, ...]] = ()
    _run: Run | None = None
    _path: str = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_declarations(cls)
        for name, value in cls.__dict__.items():
            if isinstance(value, Domain):
                raise DefinitionError(
                    f"{cls.__name__}.{name} is a bare {type(value).__name__}; a class declares variables.\n"
                    f"  wrong:  {name} = {value!r}\n"
                    f"  right:  {name} = variable({value!r})"
                )
        cls._kind = _kind_of(cls)
        cls._templates = tuple(
            {
                name: None
                for base in reversed(cls.__mro__)
                for name, value in base.__dict__.items()
                if isinstance(value, Module)
            }
        )

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = object.__new__(cls)
        for name in cls._templates:  # a module in a class attribute is a template: each instance has its own
            template = inspect.getattr_static(cls, name)
            if isinstance(template, Module):
                object.__setattr__(self, name, template.bind({}))
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in declared(type(self)):
            if isinstance(value, Domain | Handle):
                domain = value if isinstance(value, Domain) else getattr(value, "domain", "Int(1, 5)")
                raise DefinitionError(
                    f"self.{name} = {value!r}: {type(self).__name__} declares no variable `{name}` that could "
                    f"be opened or linked.\n"
                    f"  right:  class {type(self).__name__}(Module):\n"
                    f"              {name} = variable({domain!r})"
                )
            self.__dict__["_stamp"] = next(_stamps)
            if isinstance(value, Module):
                value.__dict__.setdefault("_parent", weakref.ref(self))
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        self.__dict__["_stamp"] = next(_stamps)
        object.__delattr__(self, name)

    # -- the program as a space --------------------------------------------------------------------------

    def space(self) -> Space:
        """All variables of the program by path; the defaults are the values it has now.

        Raises:
            BindingError: something holds a module where a copy could not reach it.
            DefinitionError: two variables would have one path, or links go round in a circle.
        """
        wiring, things = self._wiring()
        cached = self.__dict__.get("_space")
        space: Space
        if cached is not None and cached[0] is wiring and cached[2] == wiring.values(things):
            space = cached[1]
        else:
            space = wiring.space_seen = wiring.space(things)
            defaults = [entry.default for entry in space.values()]
            self.__dict__["_space"] = (wiring, space, defaults)
        return space

    def state(self) -> VariableState:
        """The values the program has now, as a state to change and to `bind`."""
        return VariableState(self.space())

    def bind(self, state: VariableState | Mapping[str, Any]) -> Self:
        """Another program of this type with these values; this one stays as it is.

        Modules are copied structurally, everything else is shared by reference. Bound methods, closures,
        partials and tools over a module of the tree follow the copy.

        Args:
            state: a state of this program's space, or some values by path; paths not named keep their value.

        Raises:
            StateError: an unknown path, a value outside its domain, or a state of another space.
            BindingError: something holds a module where the copy could not reach it.
        """
        wiring, things = self._wiring()
        values: Mapping[str, Any]
        if not state and isinstance(state, Mapping):
            values = {}
        elif isinstance(state, VariableState):
            if wiring.space_hash is None:  # defaults do not count, so it holds as long as the wiring does
                wiring.space_hash = self.space().hash
            if state.space.hash != wiring.space_hash:
                raise StateError(
                    "the state belongs to another space than this program's; it differs in\n"
                    f"{self.space().diff(state.space)}"
                )
            values = state.to_dict()
        else:
            # Only constraints ask for the values that are not given; without any, a space that was made when
            # the program had other values says the same.
            space = wiring.space_seen
            if space is None or space.constraints:
                space = self.space()
            values = space.validate(state, partial=True)
        copies = self._copy(wiring, things, None, values)
        program: Self = copies[0]
        program.__dict__["_layout"] = wiring
        program.__dict__["_things"] = things = tuple(copies)
        if wiring.links or wiring.lookups:
            _adopt(wiring.layout, things)
        return program

    def freeze(self, *patterns: str) -> Self:
        """Take the variables whose paths match (``"answer.*"``) out of the search; returns the program.

        Raises:
            StateError: a pattern that matches no variable.
        """
        return self._set_tunable(self.space().select(*patterns), tunable=False)

    def unfreeze(self, *patterns: str) -> Self:
        """Put the variables whose paths match into the search; returns the program."""
        return self._set_tunable(self.space().select(*patterns), tunable=True)

    def _set_tunable(self, paths: Iterable[str], *, tunable: bool) -> Self:
        wiring, things = self._wiring()
        for path in paths:
            index, name = wiring.targets[path][0]
            variable = declared(type(things[index]))[name]
            if isinstance(variable, Variable):
                set_tunable(things[index], variable, tunable)
        return self

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """Every module of the tree with its path, outermost first; the program itself has the path ``""``."""
        wiring, things = self._wiring()
        for node in wiring.layout.nodes:
            yield node.path, things[node.index]

    def named_predictors(self) -> list[tuple[str, Predict]]:
        """Every `Predict` of the tree with its path."""
        return [(path, module) for path, module in self.named_modules() if module._is_predictor]  # type: ignore[misc]  # only Predict says so

    def predictors(self) -> list[Predict]:
        """Every `Predict` of the tree."""
        return [module for _, module in self.named_predictors()]

    # -- running ---------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **inputs: Any) -> Any:
        """Run the program, blocking until its result is there."""
        run = self._run
        if run is not None:
            return observed(self, run, args, inputs) if run.observers else self._invoke(run, args, inputs)
        around = active_run()
        if around is None:
            return self._execute(Run(settings=current()), args, inputs)
        with around.branch() as part:  # what it takes is told apart from what else is done there
            return self._execute(part, args, inputs)

    async def acall(self, *args: Any, **inputs: Any) -> Any:
        """Run the program without blocking the event loop.

        Cancelling the task cancels the run: what a blocking ``forward`` waits for in its thread ends, and nothing more
        is asked. Code of its own that blocks runs on until it next asks a model. A part of a program whose ``forward``
        blocks, and that is cancelled alone (``asyncio.wait_for(self.part.acall(...), 5)``), ends with the program.
        """
        run = self._run
        if run is not None:
            return await (aobserved(self, run, args, inputs) if run.observers else self._ainvoke(run, args, inputs))
        around = active_run()
        if around is None:
            return await self._aexecute_alone(Run(settings=current()), args, inputs)
        with around.branch() as part:
            return await self._aexecute_alone(part, args, inputs)

    def execute(self, inputs: Mapping[str, Any], *, run: Run) -> Any:
        """Run a copy of the program within ``run``, which keeps its trace and usage even when it fails."""
        return self._execute(run, (), inputs)

    async def aexecute(self, inputs: Mapping[str, Any], *, run: Run) -> Any:
        """The async side of `execute`; cancelling the task ends what it does in ``run``, and not the run."""
        if self.natively_async:  # nothing of it outlives its task
            return await self._aexecute(run, (), inputs)
        with run.branch() as part:
            return await self._aexecute_alone(part, (), inputs)

    def _execute(self, run: Run, args: tuple[Any, ...], inputs: Mapping[str, Any]) -> Any:
        copy = self._attached(run)
        began = time.perf_counter()
        token = activate(run)
        try:
            if run.observers:
                return observed(copy, run, args, inputs, began)
            result = copy._invoke(run, args, inputs)
        finally:
            deactivate(token)
        return measured(result, run, began)

    async def _aexecute(self, run: Run, args: tuple[Any, ...], inputs: Mapping[str, Any]) -> Any:
        copy = self._attached(run)
        began = time.perf_counter()
        token = activate(run)
        try:
            if run.observers:
                return await aobserved(copy, run, args, inputs, began)
            result = await copy._ainvoke(run, args, inputs, outermost=True)
        finally:
            deactivate(token)
        return measured(result, run, began)

    async def _aexecute_alone(self, run: Run, args: tuple[Any, ...], inputs: Mapping[str, Any]) -> Any:
        """`_aexecute` in a run, or a part of one, that nobody else is in: it ends with the task."""
        try:
            return await self._aexecute(run, args, inputs)
        except BaseException as error:
            if not isinstance(error, Exception):  # cancelled, and the threads it has begun know nothing of that
                run.cancel(_TASK_CANCELLED)
            raise

    def _invoke(self, run: Run, args: tuple[Any, ...], inputs: Mapping[str, Any]) -> Any:
        kind = self._kind
        if kind == "flow":
            return drive(self.flow(*args, **inputs), run)  # type: ignore[attr-defined]  # _kind says so
        if kind == "forward":
            return self.forward(*args, **inputs)
        return run_blocking(self.forward(*args, **inputs))

    def _ainvoke(
        self, run: Run, args: tuple[Any, ...], inputs: Mapping[str, Any], *, outermost: bool = False
    ) -> Awaitable[Any]:
        kind = self._kind
        if kind == "flow":
            return adrive(self.flow(*args, **inputs), run)  # type: ignore[attr-defined]  # as above
        if kind == "forward":
            stop = functools.partial(run.cancel, _TASK_CANCELLED) if outermost else None
            return in_thread(functools.partial(self.forward, *args, **inputs), stop=stop, patience=LONGEST_GRACE)
        awaitable: Awaitable[Any] = self.forward(*args, **inputs)
        return awaitable

    def stream(
        self,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        listen: str | Iterable[str] | None = None,
        fields: str | Iterable[str] | None = None,
        status: bool = True,
        run: Run | None = None,
        **named: Any,
    ) -> Generator[StreamEvent, None, None]:
        """Run the program, and yield what happens as it happens; the last event is the `Final` prediction.

        `FieldDelta` is more of an output's text, from any predictor of the run, whatever calls it, on any thread or
        task; `Restart` says that a predictor's answer comes anew; `Status` that a module, a tool or a model starts,
        ends or fails. The deltas of an output that is text, since the last restart, add up to its value; of another
        type they are what the model wrote for it. Answers from the cache stream too. Of several completions (``n``) the
        first is shown, which is the one that the prediction's fields are of.

        The program runs on a thread of its own, from the first event that is asked for, in the context (and under the
        settings) of this call. An error of the program is raised after what came before it. Closing the generator, as
        leaving a loop over it does, cancels what it runs. Within another run, and in one that it is given, it is a part
        of that: it counts there, ends with it, and can be left by itself. Several streams of one run each have their
        own events.

        Args:
            inputs: inputs by name, for those that are called as an option below is.
            listen: paths of predictors, or of modules that hold some, or globs of them; None is all. What nobody
                listens to is not streamed by its model.
            fields: names of outputs; None is all.
            status: whether there are `Status` events.
            run: the run that it counts in, with a deadline, a budget or a trace of one's own.
            named: inputs.

        Raises:
            DefinitionError: ``listen`` or ``fields`` names what the program does not have.

        Example:
            >>> import dspex
            >>> program = dspex.ChainOfThought("question -> answer")
            >>> lm = dspex.MockLM([{"reasoning": "France, so Paris.", "answer": "Paris"}])
            >>> with dspex.context(lm=lm):
            ...     *deltas, last = program.stream(question="Capital of France?", status=False)
            >>> "|".join(event.delta for event in deltas if event.field == "reasoning")
            'France,| so| Paris.'
            >>> last.prediction.answer
            'Paris'
        """
        return Streaming(self, inputs, named, listen=listen, fields=fields, status=status, run=run).events()

    def astream(
        self,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        listen: str | Iterable[str] | None = None,
        fields: str | Iterable[str] | None = None,
        status: bool = True,
        run: Run | None = None,
        **named: Any,
    ) -> AsyncGenerator[StreamEvent, None]:
        """`stream`, for ``async for``; the program runs in a task of its own.

        After leaving a loop over it early, ``await`` its ``aclose()`` (or use `contextlib.aclosing`), so that what it
        runs is cancelled at once.
        """
        return Streaming(self, inputs, named, listen=listen, fields=fields, status=status, run=run).aevents()

    def forward(self, *args: Any, **inputs: Any) -> Any:
        """What the program does; subclasses write it (sync or async), or a ``flow``."""
        if hasattr(self, "flow"):  # super().forward(...) of a module whose flow is inherited
            return drive(self.flow(*args, **inputs), self._run or Run(settings=current()))
        name = type(self).__name__
        raise DefinitionError(
            f"{name} has no forward, so it cannot be called.\n"
            f"  right:  class {name}(Module):\n"
            "              def forward(self, question): ..."
        )

    @property
    def natively_async(self) -> bool:
        """Whether no module of the tree has a blocking ``forward``, so that runs need no threads."""
        return all(module._kind in ("flow", "async") for _, module in self.named_modules())

    def render(self, *args: Any, **inputs: Any) -> Rendering:
        """The exact messages each predictor would send for these inputs, by path; no model is asked.

        A predictor further on is rendered with placeholders such as ``<answer>`` where it would read
        another's output. Tools are called for real when the program calls them.

        Raises:
            DataError: what a call would raise for these inputs, as far as the first predictor reads them.

        Example:
            >>> import dspex
            >>> print(dspex.Predict("question -> answer").render(question="2 + 2?").messages[-1]["role"])
            user
        """
        run = RenderRun(settings=current())
        self._execute(run, args, inputs)
        return run.rendering

    # -- files -----------------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str]) -> None:
        """Write the program's values and what is frozen as versioned JSON, atomically; no code, secret or pickle."""
        save_program(self, path)

    def load(self, path: str | PathLike[str]) -> Self:
        """Take over the values that `save` wrote, and what was frozen then, and return the program.

        Raises:
            StorageError: the file is missing, is not JSON or not a saved program, or is of a newer schema.
            StateError: it was saved from a different space; the message says where they differ.
        """
        load_program(self, path)
        return self

    # -- copies ----------------------------------------------------------------------------------------

    def _wiring(self) -> tuple[Wiring, tuple[Any, ...]]:
        """The current wiring and things of the tree below, worked out again only when the tree has changed."""
        state = self.__dict__
        wiring = state.get("_layout")
        if wiring is not None:
            things = state["_things"]
            if wiring.layout.holds(things):
                return wiring, things
        layout, things = discover(self, Module)
        _adopt(layout, things)
        wiring = Wiring(layout, things)
        state["_layout"] = wiring
        state["_things"] = things
        return wiring, things

    def _copy(self, wiring: Wiring, things: tuple[Any, ...], run: Run | None, values: Mapping[str, Any]) -> list[Any]:
        """Copies of all things, values written, links and lookups resolved; the program is the first."""
        layout = wiring.layout
        copies: list[Any] = [None] * len(things)
        for index, path in layout.places:
            copies[index] = _twin(things[index], run, path)
        for index, rebuild in layout.rebuilds:
            copies[index] = rebuild(things[index], copies)
        for index, attributes in layout.holders:
            state = copies[index].__dict__
            for name, held in attributes:
                state[name] = copies[held]
        if values:
            targets = wiring.targets
            for path, value in values.items():
                index, name = targets[path][0]
                copies[index].__dict__[name] = value
        if wiring.links and run is not None:
            for reader, name, source, attribute in wiring.links:
                copies[reader].__dict__[name] = wiring.value(copies[source], attribute)
        if wiring.lookups and run is not None:
            for reader, variable, source, attribute in wiring.lookups:
                found = copies[reader].__dict__.setdefault("_links", {})
                found[variable] = wiring.value(copies[source], attribute)
        return copies

    def _attached(self, run: Run) -> Self:
        state = self.__dict__
        wiring = state.get("_layout")
        if wiring is not None and wiring.is_single:  # a predictor by itself, the most frequent of programs
            _, stamp, slots = wiring.layout.stamps[0]
            if state.get("_stamp") is stamp and state.get("_slots") is slots:
                return _twin(self, run, "")
        wiring, things = self._wiring()
        copy: Self = self._copy(wiring, things, run, {})[0]
        return copy

    def _moved_to(self, run: Run) -> Self:
        """A copy of this part of a running program within another run, at the same path."""
        wiring, things = self._wiring()
        copies = self._copy(wiring, things, run, {})
        for index, path in wiring.layout.places:
            copies[index].__dict__["_path"] = joined_path(self._path, path)
        copy: Self = copies[0]
        return copy

    def _resolve_link(self, variable: Handle) -> Any:
        links = self.__dict__.get("_links")
        if links is not None and variable in links:
            return links[variable]
        return enclosing_value(self, variable)

    def _condition_of(self, name: str, path: str) -> Condition | None:
        """The condition under which the child ``name`` of the module at ``path`` is active."""
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _UNSAVED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __repr__(self) -> str:
        return describe(self)

    def __rich__(self) -> Tree:
        return tree(self)


_TASK_CANCELLED = "the task that awaited its program was cancelled"
_UNSAVED = INTERNAL - {"_slots", "_stamp"}


def _kind_of(cls: type[Module]) -> str:
    """How a module runs: by what is written nearest to it in the order of inheritance."""
    for base in cls.__mro__:
        if base is Module:
            return "none"
        if "flow" in base.__dict__:
            return "flow"
        if "forward" in base.__dict__:
            return "async" if inspect.iscoroutinefunction(inspect.unwrap(base.__dict__["forward"])) else "forward"
    return "none"


def _twin(module: ModuleT, run: Run | None, path: str) -> ModuleT:
    """A copy of one module alone, attached to ``run`` if there is one."""
    twin = _new(type(module))
    state = module.__dict__.copy()
    if "_layout" in state:
        del state["_layout"], state["_things"]
        state.pop("_space", None)
    if run is not None:
        state["_run"] = run
        state["_path"] = path
    # Twice as fast as filling the dict that the new object would make for itself.
    _set(twin, "__dict__", state)
    return twin


def _adopt(layout: Layout, things: tuple[Any, ...]) -> None:
    for child, parent in layout.parents.items():
        things[child].__dict__["_parent"] = weakref.ref(things[parent])
