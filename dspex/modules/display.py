"""How a program shows itself: a one-line repr that names what was set, and a rich tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.variables import Derived, declared
from dspex.variables.messages import counted

if TYPE_CHECKING:
    from rich.tree import Tree

    from dspex.modules.module import Module

__all__ = ["describe", "tree"]


def describe(module: Module) -> str:
    """``Support(tone='warm', answer=Predict('question -> answer'))``: variables that differ, and children."""
    return _describe(module, ())


def _describe(module: Module, above: tuple[int, ...]) -> str:
    kind = type(module)
    if id(module) in above:
        return f"{kind.__name__}(...)"
    parts = []
    signature = module.__dict__.get("signature")
    if signature is not None and hasattr(signature, "spec"):
        parts.append(repr(signature.spec))
    for name, variable in declared(kind).items():
        if not isinstance(variable, Derived) and name in module.__dict__:
            value = module.__dict__[name]
            if value != variable.default:
                parts.append(f"{name}={_short(value)}")
    for name, child in _parts(module):
        parts.append(f"{name}={_describe(child, (*above, id(module)))}")
    return f"{kind.__name__}({', '.join(parts)})"


def _parts(module: Module) -> list[tuple[str, Module]]:
    """The modules that attributes of ``module`` hold directly or in lists and dicts."""
    found: list[tuple[str, Module]] = []
    seen: set[int] = set()  # data may be a graph

    def collect(name: str, value: Any) -> None:
        if hasattr(type(value), "_variable_at_own_path"):
            found.append((name, value))
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                collect(f"{name}.{key}", item)

    variables = declared(type(module))
    for name, value in module.__dict__.items():
        if not name.startswith("_") and name not in variables:
            seen.clear()
            collect(name, value)
    return found


def _short(value: Any, limit: int = 40) -> str:
    if isinstance(value, tuple) and value and not isinstance(value[0], str | int | float):
        return f"<{counted(len(value), 'demo')}>"
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def tree(program: Module) -> Tree:
    """The program as a rich tree: modules as branches, variables with value, domain and whether searched."""
    from rich.markup import escape
    from rich.tree import Tree

    space = program.space()
    branches = {"": Tree(f"[bold]{type(program).__name__}[/bold]")}
    modules = dict(program.named_modules())

    def branch(path: str) -> Tree:
        if path not in branches:
            parent, _, name = path.rpartition(".")
            module = modules.get(path)
            label = f"[bold]{escape(name)}[/bold]"
            if module is not None:
                signature = module.__dict__.get("signature")
                spec = (
                    f" [dim]{escape(signature.spec)}[/dim]"
                    if signature is not None and hasattr(signature, "spec")
                    else ""
                )
                label += f" {type(module).__name__}{spec}"
            branches[path] = branch(parent).add(label)
        return branches[path]

    for path in modules:
        branch(path)
    searched = set(space.tunable)
    for path, entry in space.items():
        if path in modules and path:
            at, name = branch(path), "choice"
        else:
            parent, _, name = path.rpartition(".")
            at = branch(parent)
        if entry.is_derived:
            at.add(f"{escape(name)} [dim]= derived from {', '.join((entry.inputs or {}).values())}[/dim]")
            continue
        mark = "[green]●[/green]" if path in searched else "[dim]○[/dim]"
        at.add(f"{mark} {escape(name)} = {escape(_short(entry.default))} [dim]{escape(repr(entry.domain))}[/dim]")
    return branches[""]
