"""What makes two searches the same search: the name under which one is resumed.

Running the same line again must find the work of the run that was killed, and a changed line must not. So a study
that is not named gets its name from what decides its results, and one that is named remembers it: the program's space,
start values, signatures and code, the examples of every split, the metric's code, the optimizer's settings, the model.
What cannot be seen from here (data behind a tool, a model that a provider replaced) is the caller's to know.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping, Sequence
from typing import Any

from dspex.data import Example
from dspex.errors import DefinitionError, StudyError
from dspex.modules import Module
from dspex.study import Study
from dspex.variables import content_id
from dspex.variables.messages import shown

__all__ = ["check_identity", "described", "study_identity", "study_name"]

_IDENTITY = "dspex:identity"
_TOLD_APART = (str, int, float, bool, type(None), set, frozenset, types.BuiltinFunctionType, types.MethodType)


def study_identity(
    program: Module,
    metric: Any,
    splits: Sequence[Sequence[Example]],
    settings: dict[str, Any],
    model: Any,
) -> dict[str, str]:
    """What decides the results, part by part, each as a digest.

    Raises:
        DefinitionError: when a setting cannot be told from another of its type, such as an array in a proposer.
    """
    parts = {
        "program": [[path, _described_module(module)] for path, module in program.named_modules()],
        "space": [program.space().hash, program.state().fingerprint, list(program.space().tunable)],
        "metric": described(metric),
        "examples": [[example.id for example in split] for split in splits],
        "settings": _described_settings(settings, ""),
        "model": described(model),
    }
    return {name: content_id(part) for name, part in parts.items()}


def study_name(program: Module, identity: dict[str, str]) -> str:
    """``Support-3f9a…``: the program's class and a digest of its identity."""
    return f"{type(program).__name__}-{content_id(identity)}"


def check_identity(study: Study, identity: dict[str, str]) -> None:
    """Write the identity into a new study, and compare it with that of one that exists.

    Raises:
        StudyError: when the study was made from something else; its scores would be taken for this search's.
    """
    known = study.user_attrs.get(_IDENTITY)
    if known is None:
        study.set_user_attr(_IDENTITY, identity)
        return
    changed = [name for name, digest in identity.items() if known.get(name) != digest]
    if changed:
        raise StudyError(
            f"study {study.study_name!r} was made with another {' and another '.join(changed)}, so its results are not "
            "this search's; give another name, or leave study= out to have one made from what decides the results"
        )


def _described_settings(value: Any, place: str) -> Any:
    if isinstance(value, Mapping):
        return {name: _described_settings(one, f"{place}.{name}" if place else name) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_described_settings(one, f"{place}[{index}]") for index, one in enumerate(value)]
    if not isinstance(value, _TOLD_APART) and not hasattr(value, "to_json") and not hasattr(value, "__dict__"):
        raise DefinitionError(
            f"{place} = {shown(value)} cannot be described, so a search with another one would be taken for the same "
            "and resumed. Give the class that keeps it a to_json(self) that returns what decides its results as plain "
            f"data, or call the attribute _{place.rpartition('.')[2]} if it decides nothing"
        )
    return described(value)


def described(value: Any) -> Any:
    """``value`` as plain data that is the same in every process, so that edited code is another value.

    Functions are told apart by their code, constants and what they close over, instances by their attributes.
    """
    return _described(value, 0)


def _described(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if depth > 6:
        return type(value).__qualname__
    if isinstance(value, Mapping):
        return {str(key): _described(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = [_described(item, depth + 1) for item in value]
        return sorted(items, key=repr) if isinstance(value, set | frozenset) else items
    if isinstance(value, functools.partial):
        return ["partial", *(_described(part, depth + 1) for part in (value.func, value.args, value.keywords))]
    if isinstance(value, types.MethodType):
        return [_described(value.__func__, depth + 1), _described(value.__self__, depth + 1)]
    if isinstance(value, types.FunctionType):
        cells = [_described(_content(cell), depth + 1) for cell in value.__closure__ or ()]
        defaults = _described([value.__defaults__, value.__kwdefaults__], depth + 1)
        return [value.__qualname__, _described_code(value.__code__), cells, defaults]
    if isinstance(value, types.BuiltinFunctionType):
        return [value.__module__, value.__qualname__]
    if isinstance(value, type):
        own = {n: v for n, v in vars(value).items() if isinstance(v, types.FunctionType | staticmethod | classmethod)}
        functions = {n: _described(getattr(v, "__func__", v), depth + 1) for n, v in own.items()}
        return [value.__module__, value.__qualname__, functions]
    if hasattr(value, "to_json"):
        return [type(value).__qualname__, repr(value.to_json())]
    attributes = {name: _described(item, depth + 1) for name, item in getattr(value, "__dict__", {}).items()}
    return [type(value).__module__, type(value).__qualname__, attributes]


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _described_code(code: types.CodeType) -> list[Any]:
    constants = [_described_code(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return [code.co_code.hex(), constants, list(code.co_names)]


def _described_module(module: Module) -> Any:
    kind = type(module)
    code = [
        _described(function, 0)
        for base in kind.__mro__
        if not base.__module__.startswith("dspex.")
        for function in vars(base).values()
        if isinstance(function, types.FunctionType)
    ]
    plain = {name: module.__dict__.get(name) for name in ("lm", "params", "n", "_own_adapter")}
    tools = {name: _described(tool.func, 3) for name, tool in module.__dict__.get("tools", {}).items()}
    signature = module.__dict__.get("signature")
    return [kind.__qualname__, code, getattr(signature, "key", None), _described(plain, 0), tools]
