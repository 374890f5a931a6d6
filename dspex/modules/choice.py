"""`ModuleChoice`: which of several modules does a job is a variable like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from dspex.errors import DefinitionError
from dspex.modules.flow import Call, Flow
from dspex.modules.module import Module
from dspex.variables import Choice, Condition, Domain, Handle, ModelChoice, Variable, declared, set_tunable

__all__ = ["ModuleChoice"]


class _Alternative(Variable[str]):
    """The name of an alternative, which each instance has of its own."""

    def declared_domain(self, obj: Any) -> Domain[str]:
        return Choice(*obj._names)

    def _covers(self, declared: Domain[str], domain: Domain[Any]) -> bool:
        # Models are looked up by their names, which the names of the alternatives are not.
        return not isinstance(domain, ModelChoice) and super()._covers(declared, domain)

    def __delete__(self, obj: Any) -> None:
        super().__delete__(obj)
        self.__set__(obj, obj._names[0])


class ModuleChoice(Module):
    """Named alternatives, one of which runs; the choice is a variable at this module's own path.

    In a program where ``self.answer = ModuleChoice(direct=..., stepwise=...)`` the variable is ``answer``, and
    ``answer.stepwise.temperature`` is active only while ``answer`` is ``"stepwise"``. An alternative is an
    attribute: ``program.answer.stepwise``.

    All alternatives are searched, beginning with the first, unless ``choice`` says otherwise: a name fixes it, a
    `Choice` of names leaves those open and begins with its first, a variable of an enclosing module links it.

    Args:
        alternatives: the modules by name, as a mapping or as keyword arguments.
        choice: which alternative runs: a name, a `Choice` of names, or a variable that has only names as values.

    Raises:
        DefinitionError: no alternative, one that is not a module, a name that Module itself uses, or a ``choice``
            that is none of the alternatives.

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
        >>> later = dspex.ModuleChoice(answer.alternatives, choice=dspex.Choice("stepwise", "direct"))
        >>> later.choice, "choice" in later.space().tunable
        ('stepwise', True)
    """

    # The declared domain and default stand in for the names, which are known only to the instance.
    choice: Variable[str] = _Alternative(Choice("none"), "none", doc="which alternative runs", tunable=True)
    _variable_at_own_path: ClassVar[str | None] = "choice"
    _names: tuple[str, ...] = ()

    def __init__(
        self,
        alternatives: Mapping[str, Module] | None = None,
        /,
        *unnamed: Module,
        choice: str | Domain[str] | Variable[str] | None = None,
        **named: Module,
    ) -> None:
        modules: dict[str, Any] = {**_by_name(alternatives, unnamed), **named}
        if not modules:
            raise DefinitionError(
                "ModuleChoice needs at least one alternative.\n"
                "  wrong:  ModuleChoice()\n"
                "  right:  ModuleChoice(direct=Predict('question -> answer'), stepwise=ChainOfThought(...))"
            )
        for name, module in modules.items():
            if not isinstance(module, Module):
                right = f"  right:  ModuleChoice({name}=Predict('question -> answer'))"
                if isinstance(module, str) and module in modules:
                    right = _spellings([module, *(one for one in modules if one not in (module, name))])
                raise DefinitionError(
                    f"the alternative `{name}` of a ModuleChoice is {module!r} of type "
                    f"{type(module).__name__}, not a Module.\n{right}"
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
        if choice is None:
            self.choice = self._names[0]
        else:
            self._choose(choice)

    def _choose(self, choice: str | Domain[str] | Variable[str]) -> None:
        names = Choice(*self._names)
        if isinstance(choice, Domain):
            fits = ModuleChoice.choice._covers(names, choice)
        else:
            fits = isinstance(choice, Handle) or names.contains(choice)
        if not fits:
            raise DefinitionError(
                f"`choice` of a ModuleChoice is {choice!r} of type {type(choice).__name__}, but the alternatives are "
                f"{', '.join(map(repr, self._names))}.\n{_spellings(self._names)}"
            )
        self.choice = choice
        if not isinstance(choice, Domain | Handle):
            set_tunable(self, ModuleChoice.choice, False)

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


def _by_name(alternatives: Any, unnamed: Sequence[Any]) -> Mapping[str, Module]:
    if not unnamed and alternatives is None:
        return {}
    if not unnamed and isinstance(alternatives, Mapping):
        return alternatives
    wrong = unnamed[0] if unnamed else alternatives
    raise DefinitionError(
        f"the alternatives of a ModuleChoice need names, got {wrong!r} of type {type(wrong).__name__}.\n"
        "  wrong:  ModuleChoice(Predict('question -> answer'), ...)\n"
        "  right:  ModuleChoice(direct=Predict('question -> answer'), stepwise=ChainOfThought(...))"
    )


def _spellings(names: Sequence[str]) -> str:
    return (
        f"  right:  choice={names[0]!r}  # always {names[0]!r}\n"
        f"  right:  choice=Choice({', '.join(map(repr, names))})  # searched, beginning with {names[0]!r}"
    )
