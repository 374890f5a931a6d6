"""`ModuleChoice`: which of several modules does a job is a variable like any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from dspex.errors import DefinitionError
from dspex.modules.flow import Call, Flow
from dspex.modules.module import Module
from dspex.variables import Choice, Condition, Slot, Variable, declared, variable

__all__ = ["ModuleChoice"]


class ModuleChoice(Module):
    """Named alternatives, one of which runs; the choice is a variable at this module's own path.

    In a program where ``self.answer = ModuleChoice(direct=..., stepwise=...)`` the variable is ``answer``, and
    ``answer.stepwise.temperature`` is active only while ``answer`` is ``"stepwise"``. The first alternative
    is the default. An alternative is an attribute: ``program.answer.stepwise``.

    Args:
        alternatives: the modules by name, as a mapping or as keyword arguments.

    Raises:
        DefinitionError: no alternative, one that is not a module, or a name that Module itself uses.

    Example:
        >>> import dspex
        >>> answer = dspex.ModuleChoice(
        ...     direct=dspex.Predict("question -> answer"),
        ...     stepwise=dspex.ChainOfThought("question -> answer"),
        ... )
        >>> answer.choice
        'direct'
        >>> answer.bind({"choice": "stepwise"}).space().active({"choice": "stepwise"})[:2]
        ('choice', 'stepwise.instructions')
    """

    choice: Variable[str] = variable(Choice("none"), doc="which alternative runs")
    _variable_at_own_path: ClassVar[str | None] = "choice"
    _names: tuple[str, ...] = ()

    def __init__(self, alternatives: Mapping[str, Module] | None = None, /, **named: Module) -> None:
        modules = {**(alternatives or {}), **named}
        if not modules:
            raise DefinitionError(
                "ModuleChoice needs at least one alternative.\n"
                "  wrong:  ModuleChoice()\n"
                "  right:  ModuleChoice(direct=Predict('question -> answer'), stepwise=ChainOfThought(...))"
            )
        for name, module in modules.items():
            if not isinstance(module, Module):
                raise DefinitionError(
                    f"the alternative `{name}` of a ModuleChoice is {module!r} of type "
                    f"{type(module).__name__}, not a Module.\n"
                    f"  right:  ModuleChoice({name}=Predict('question -> answer'))"
                )
            identifier = isinstance(name, str) and name.isidentifier()
            if not identifier or name.startswith("_") or hasattr(type(self), name):
                raise DefinitionError(
                    f"{name!r} ({type(name).__name__}) cannot name an alternative of a ModuleChoice: "
                    f"{'Module uses the name itself' if identifier else 'it is no identifier'}.\n"
                    "  right:  ModuleChoice(direct=..., stepwise=...)"
                )
            setattr(self, name, module)
        self._names = tuple(modules)
        # The declared domain can only stand in for the names, which each instance has of its own.
        self.__dict__["_slots"] = {"choice": Slot(domain=Choice(*modules))}
        self.choice = self._names[0]

    @property
    def alternatives(self) -> dict[str, Module]:
        """The modules by name."""
        return {name: self.__dict__[name] for name in self._names}

    def flow(self, **inputs: Any) -> Flow:
        """Run the chosen alternative and return what it returns."""
        result = yield Call(self.__dict__[self.choice], **inputs)
        return result

    def _condition_of(self, name: str, path: str) -> Condition | None:
        if name not in self._names or name in declared(type(self)):
            return None
        return Condition(path=path or "choice", value=name)
