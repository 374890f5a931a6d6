"""Saved programs: versioned JSON of values and of what is searched, never code, secrets or pickles."""

from __future__ import annotations

import json
import os
import tempfile
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex.errors import StateError, StorageError
from dspex.modules.render import predictor_at
from dspex.variables import Space, VariableState

if TYPE_CHECKING:
    from dspex.modules.module import Module

__all__ = ["FORMAT", "SCHEMA", "load_program", "save_program"]

FORMAT = "dspex.program"
SCHEMA = 1


def save_program(program: Module, path: str | PathLike[str]) -> None:
    """Write ``program``'s class name, space and values to ``path``; a crash leaves the old file or the new."""
    target = Path(path)
    space = program.space()
    kind = type(program)
    document = {
        "format": FORMAT,
        "schema": SCHEMA,
        "program": f"{kind.__module__}:{kind.__qualname__}",
        "signatures": _signatures(program),
        "space_hash": space.hash,
        "space": space.to_json(),
        "state": program.state().to_json(),
    }
    text = json.dumps(document, indent=2, ensure_ascii=False)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            # A model's text may hold half a surrogate pair, which has no UTF-8: its escape is the one that JSON has.
            with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text + "\n")
            os.chmod(temporary, target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise StorageError(f"the program could not be saved to {str(target)!r}: {error}") from error


def _signatures(program: Module) -> dict[str, str]:
    return {path: predictor.signature.spec for path, predictor in program.named_predictors()}


def _umask() -> int:
    mask = os.umask(0o022)  # it can only be read by setting it
    os.umask(mask)
    return mask


def load_program(program: Module, path: str | PathLike[str]) -> None:
    """Set ``program``'s values to those saved at ``path``, and search what was searched there; all or nothing."""
    document = _read(Path(path))
    space, saved = program.space(), Space.from_json(document["space"])
    if document.get("space_hash") != space.hash:
        if saved.hash == space.hash:
            raise StorageError(
                f"{str(path)!r} is damaged: its `space_hash` is {document.get('space_hash')!r}, but its `space` has "
                f"{saved.hash!r}. Save the program again"
            )
        raise StateError(
            f"{str(path)!r} was saved from {document.get('program')}, whose space differs from that of this "
            f"{type(program).__name__}:\n{space.diff(saved)}\n"
            "  right:  load it into a program with the same variables, or bind the values that still fit: "
            "program.bind({path: value, ...})"
        )
    saved_signatures, own = document["signatures"], _signatures(program)
    for where in own:
        if saved_signatures.get(where) != own[where]:
            raise StateError(
                f"{str(path)!r} was saved from another program, of which {predictor_at(where)} "
                f"had the signature {saved_signatures.get(where)!r}; here it is {own[where]!r}, "
                "so its instructions and demos do not fit.\n"
                "  right:  load it into the program it was saved from, or bind the values that still fit: "
                "program.bind({path: value, ...})"
            )
    state = VariableState.from_json(document["state"], space)
    wiring, things = program._wiring()
    own_values = program.state().to_dict()
    for name, value in state.to_dict().items():
        # A file has the names of models alone: the program's own model of that name, with its address and its key, is
        # the one that is meant, and not whoever is known by that name to everybody.
        if isinstance(value, str) and getattr(own_values[name], "model", None) == value:
            continue
        index, attribute = wiring.targets[name][0]
        things[index].__dict__[attribute] = value
    for tunable in (True, False):
        others = [name for name in state if saved[name].tunable is tunable is not space[name].tunable]
        program._set_tunable(others, tunable=tunable)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageError(f"the saved program {str(path)!r} cannot be read: {error}") from error
    except ValueError as error:
        raise StorageError(
            f"{str(path)!r} is not a saved program: it is not JSON ({error}). Save one with program.save(path)"
        ) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise StorageError(
            f"{str(path)!r} is JSON but not a saved program: its `format` is not {FORMAT!r}. "
            "Save one with program.save(path)"
        )
    if document.get("schema") != SCHEMA:
        raise StorageError(
            f"{str(path)!r} has schema {document.get('schema')!r}; this dspex reads schema {SCHEMA}. "
            "Load it with the version of dspex that saved it"
        )
    for key in ("signatures", "space", "state"):
        if not isinstance(document.get(key), dict):
            raise StorageError(f"{str(path)!r} is damaged: it has no `{key}`. Save the program again")
    return document
