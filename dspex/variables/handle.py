"""What a declared variable and a derived one have in common: a name, an owner and one identity."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

__all__ = ["Handle"]


class Handle(ABC):
    """The handle of a declaration, as read on its class; one object, compared by identity, never copied.

    ``name`` and ``owner`` are set when it is the attribute of a class; a *free* handle has the name ``""``
    and no owner.
    """

    __slots__ = ("alias", "doc", "name", "owner")

    name: str
    owner: type[Any] | None
    doc: str
    alias: tuple[type[Any], str] | None
    """A second place that this handle was assigned to, which `check_declarations` refuses."""

    def __init__(self, doc: str) -> None:
        self.name = ""
        self.owner = None
        self.doc = doc
        self.alias = None

    def __set_name__(self, owner: type[Any], name: str) -> None:
        if self.owner is None:
            self.owner, self.name = owner, name
        elif (self.owner, self.name) != (owner, name):
            self.alias = (owner, name)

    @property
    def label(self) -> str:
        """How errors call it: ``Support.depth``, or ``a free variable``."""
        return f"{self.owner.__name__}.{self.name}" if self.owner is not None else "a free variable"

    @abstractmethod
    def default_value(self) -> Any:
        """Return the value that it has where nothing says otherwise."""

    def __copy__(self) -> Handle:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Handle:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # By reference, so that a link is still the same variable in another process.
        if self.owner is not None:
            return (getattr, (self.owner, self.name))
        return self._rebuild()

    @abstractmethod
    def _rebuild(self) -> tuple[Any, ...]:
        """What `__reduce__` gives for one that is no class's attribute."""
