"""The rooms import in one direction only, and `import dspex` loads nothing heavy: both read from the code."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dspex"

# From left to right; rooms in one step do not know each other. Right may import left, never the reverse.
PROGRAMS = (
    "errors",
    "forks",
    "callbacks",
    "variables",
    "data",
    "types",
    "signatures",
    "execution",
    "lm",
    "adapters tools",
    "modules",
    "evaluate",
)
SEARCH = (
    "errors",
    "forks",
    "callbacks",
    "variables",
    "data",
    "trials",
    "storage samplers pruners",
    "study",
    "importance",
)
BOTH = ("proposers", "optimizers", "visualization bridge", "cli dashboard", "testing")

# Beyond the order of its trunk: a study runs its objectives on the executors and under a budget.
FURTHER = {"study": {"execution"}}

HEAVY = (
    "cmaes",
    "jinja2",
    "litellm",
    "matplotlib",
    "numpy",
    "opentelemetry",
    "optuna",
    "plotly",
    "pydantic",
    "rich",
    "sqlalchemy",
    "xllamacpp",
)
# Loaded when first used, never by importing a room; numpy and pydantic are the trade of some rooms.
ON_USE = {"cmaes", "litellm", "matplotlib", "opentelemetry", "optuna", "plotly", "rich", "sqlalchemy", "xllamacpp"}


def _allowed() -> dict[str, set[str]]:
    allowed: dict[str, set[str]] = {}
    for trunk in (PROGRAMS, SEARCH):
        left: set[str] = set()
        for step in trunk:
            for room in step.split():
                allowed[room] = allowed.get(room, set()) | left
            left |= set(step.split())
    for room, more in FURTHER.items():
        allowed[room] |= more
    left = set(allowed)
    for step in BOTH:
        for room in step.split():
            allowed[room] = set(left)
        # `testing` is the last step, so nothing may import it.
        left |= set(step.split())
    return allowed


ALLOWED = _allowed()
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(path) for path in FILES} | {"dspex"}


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else "dspex"


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every module that the file imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import; write the whole name"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield node.lineno, name if name in MODULES else str(node.module)


def test_every_room_has_its_place() -> None:
    rooms = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if _is_room(path)}
    assert rooms <= set(ALLOWED), f"say in {Path(__file__).name} where these rooms stand: {rooms - set(ALLOWED)}"


def _is_room(path: Path) -> bool:
    return (path.suffix == ".py" and path.name != "__init__.py") or (path / "__init__.py").exists()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_left(path: Path) -> None:
    room = _room(_module(path))
    wrong = [
        f"{path}:{line}: {room} imports {name}, but {room} may only import {', '.join(sorted(ALLOWED[room]))}"
        for line, name in _imports(path)
        if name.split(".")[0] == "dspex" and _room(name) not in ALLOWED[room] | {room}
    ]
    assert not wrong, "\n".join(wrong)


def test_no_cycles_between_files() -> None:
    """Not even cycles that imports inside functions would paper over; those of types alone are no harm."""
    graph: dict[str, set[str]] = {}
    for path in FILES:
        tree = ast.parse(path.read_text("utf-8"))
        types_only = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for inner in ast.walk(node)
        }
        edges = graph.setdefault(_module(path), set())
        for node in ast.walk(tree):
            if id(node) in types_only:
                continue
            if isinstance(node, ast.Import):
                edges.update(alias.name for alias in node.names if alias.name in MODULES)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    name = f"{node.module}.{alias.name}"
                    edges.add(name if name in MODULES else str(node.module))
    cycle = _find_cycle({module: sorted(edges & graph.keys()) for module, edges in graph.items()})
    assert cycle is None, "files import each other in a circle: " + " -> ".join(cycle or [])


def _find_cycle(graph: dict[str, list[str]]) -> list[str] | None:
    done: set[str] = set()

    def visit(module: str, way: list[str]) -> list[str] | None:
        if module in way:
            return [*way[way.index(module) :], module]
        if module in done:
            return None
        for other in graph[module]:
            if other != module and (found := visit(other, [*way, module])):
                return found
        done.add(module)
        return None

    for module in graph:
        if found := visit(module, []):
            return found
    return None


def test_import_dspex_loads_nothing_heavy() -> None:
    code = f"import sys, dspex; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    assert _python(code) == "[]"


def test_import_dspex_loads_no_room() -> None:
    assert _python("import sys, dspex; print([m for m in sys.modules if m.startswith('dspex.')])") == "[]"


def test_importing_rooms_loads_no_optional_part() -> None:
    rooms = sorted({_module(path) for path in FILES if path.name == "__init__.py" and path.parent.parent == PACKAGE})
    code = f"import sys, {', '.join(rooms)}; print(sorted({ON_USE!r} & set(sys.modules)))"
    assert _python(code) == "[]"


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
