"""What the packages promise to export is what they export."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest

import dspex

PACKAGE = Path(dspex.__file__).parent
ROOMS = sorted(
    ".".join(("dspex", *path.parent.relative_to(PACKAGE).parts))
    for path in PACKAGE.rglob("__init__.py")
    if path.parent != PACKAGE
)


def _order(name: str) -> tuple[int, list[str | int]]:
    """Constants, classes, the rest; numbers inside names by their size: the order that ruff keeps too."""
    kind = 0 if name.isupper() else 1 if name[:1].isupper() else 2
    return kind, [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _foreign(path: Path) -> set[str]:
    """What the file imports from elsewhere, for its own use."""
    return {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] != "dspex"
        for alias in node.names
    }


def _assert_sorted(names: Iterable[str]) -> None:
    assert list(names) == sorted(names, key=_order)


@pytest.mark.parametrize("name", ROOMS)
def test_all_is_sorted_and_equals_the_public_names(name: str) -> None:
    room = importlib.import_module(name)
    on_use = {key for key in room.__all__ if key not in vars(room)}
    assert all(hasattr(room, key) for key in on_use)
    foreign = _foreign(Path(str(room.__file__)))
    public = {
        key
        for key, value in vars(room).items()
        if not key.startswith("_") and key not in foreign and not isinstance(value, ModuleType)
    }
    assert set(room.__all__) == public | on_use
    assert len(set(room.__all__)) == len(room.__all__)
    _assert_sorted(room.__all__)


@pytest.mark.parametrize("name", ROOMS)
def test_public_names_are_documented(name: str) -> None:
    room = importlib.import_module(name)
    assert room.__doc__, f"say in a docstring what {name} is"
    bare = [key for key in room.__all__ if _can_have_docs(value := getattr(room, key)) and not value.__doc__]
    assert not bare, f"{name} exports names without a docstring: {bare}"


def _can_have_docs(value: object) -> bool:
    return inspect.isclass(value) or inspect.isroutine(value)


def _twin() -> dict[str, str]:
    """Name and home of what `dspex/__init__.py` imports for type checkers."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    found: dict[str, str] = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom), ast.unparse(node)
        for alias in node.names:
            # `import x as x` is how a name is re-exported to type checkers.
            assert alias.asname == alias.name, f"write `{alias.name} as {alias.name}`"
            assert alias.name not in found, f"{alias.name} is imported twice"
            found[alias.name] = f"{node.module}.{alias.name}" if node.module == "dspex" else str(node.module)
    return found


def test_type_checkers_see_what_runs() -> None:
    running = dict(dspex._HOMES) | {room: f"dspex.{room}" for room in dspex._ROOMS}
    assert _twin() == running


@pytest.mark.parametrize("name", sorted(dspex._HOMES))
def test_every_name_resolves_to_the_one_in_its_room(name: str) -> None:
    home = importlib.import_module(dspex._HOMES[name])
    assert getattr(dspex, name) is getattr(home, name)
    assert name in home.__all__


def test_top_level_all_is_sorted_and_equals_its_public_names() -> None:
    assert set(dspex.__all__) == {*dspex._HOMES, *dspex._ROOMS}
    assert set(dspex.__all__) <= set(dir(dspex))
    assert list(dspex.__all__) == sorted(dspex.__all__)


def test_every_room_is_an_attribute() -> None:
    assert {f"dspex.{room}" for room in dspex._ROOMS} >= {name for name in ROOMS if name.count(".") == 1}
    for room in dspex._ROOMS:
        assert isinstance(getattr(dspex, room), ModuleType)


def test_an_unknown_name_is_explained() -> None:
    with pytest.raises(AttributeError, match=r"module 'dspex' has no attribute 'Predct'; did you mean 'Predict'\?"):
        dspex.Predct  # noqa: B018 - reading it is the test
    with pytest.raises(AttributeError, match=r"module 'dspex' has no attribute 'qqq'$"):
        dspex.qqq  # noqa: B018 - reading it is the test
