"""What makes two searches the same search: the name under which one is resumed.

Running the same line again must find the work of the run that was killed, and a changed line must not. So a study
that is not named gets its name from what decides its results, and one that is named remembers it: the program's space,
start values, signatures and code, the examples of every split and their inputs, the metric's code, the optimizer's
settings, the model. What cannot be seen from here (data behind a tool, a model that a provider replaced) is the
caller's to know.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dspex.data import Example
from dspex.errors import DefinitionError, StudyError
from dspex.modules import Module
from dspex.optimizers.describing import described
from dspex.study import Study
from dspex.variables import content_id

__all__ = ["Identity", "check_identity", "remember_work", "study_identity", "study_name"]

_IDENTITY = "identity"

_WORKED: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
_BEFORE: dict[int, dict[str, str]] = {}
"""By the id of a metric or a program in `_WORKED`: what its work made of it, to what it was before."""


class Identity(dict[str, str]):
    """What decides the results, part by part, each as a digest; ``untold`` says what could not be described."""

    untold: DefinitionError | None = None


def study_identity(
    program: Module,
    metric: Any,
    splits: Sequence[Sequence[Example]],
    settings: dict[str, Any],
    model: Any,
) -> Identity:
    """What decides the results, part by part, each as a digest.

    Raises:
        DefinitionError: when a setting cannot be told from another of its type, such as an open file in a proposer.
    """
    identity = Identity(
        examples=content_id(
            [[[example.id, sorted(example.input_keys or ())] for example in split] for split in splits]
        ),
        settings=content_id([[name, described(value, name)] for name, value in sorted(settings.items())]),
    )
    for name, describe, thing in _living(program, metric):
        _put(identity, name, describe)
        identity[name] = _before(thing).get(identity[name], identity[name])
    _put(identity, "space", lambda: [program.space().hash, program.state().fingerprint, [*program.space().tunable]])
    _put(identity, "model", lambda: described(model, "lm"))
    return identity


def remember_work(program: Module, metric: Any, identity: Mapping[str, str]) -> None:
    """Take what the search's work has made of the metric and the program (counters, memos) for what they were.

    The same objects then resume in this process. What the caller changes between two searches is a change.
    """
    for name, describe, thing in _living(program, metric):
        now = Identity()
        _put(now, name, describe)
        if now[name] != identity[name]:
            try:
                _WORKED[id(thing)] = thing
            except TypeError:  # an object with __slots__ and without __weakref__
                continue
            _BEFORE.setdefault(id(thing), {})[now[name]] = identity[name]
            weakref.finalize(thing, _BEFORE.pop, id(thing), None)


def _before(thing: Any) -> dict[str, str]:
    return _BEFORE.get(id(thing), {}) if _WORKED.get(id(thing)) is thing else {}


def _living(program: Module, metric: Any) -> Iterator[tuple[str, Callable[[], Any], Any]]:
    """What runs the user's code, and so may change while it works."""
    yield "program", lambda: described(program, type(program).__name__), program
    yield "metric", lambda: described(metric, "metric"), getattr(metric, "__self__", metric)


def _put(identity: Identity, name: str, describe: Callable[[], Any]) -> None:
    try:
        identity[name] = content_id(describe())
    except DefinitionError as error:
        identity[name] = "cannot be described"
        identity.untold = error


def study_name(program: Module, identity: Identity) -> str:
    """``Support-3f9a…``: the program's class and a digest of its identity.

    Raises:
        DefinitionError: when a part cannot be described: another one would resume this search as its own.
    """
    if identity.untold is not None:
        raise DefinitionError(
            f'{identity.untold}; or name the search, study="name", and give it another name when this changes'
        ) from identity.untold
    return f"{type(program).__name__}-{content_id(identity)}"


def check_identity(study: Study, identity: Mapping[str, str]) -> None:
    """Write the identity into a new study, and compare it with that of one that exists.

    Raises:
        StudyError: when the study was made from something else; its scores would be taken for this search's.
    """
    known = study.system_attrs.get(_IDENTITY)
    if known is None:
        study.set_system_attr(_IDENTITY, dict(identity))
        return
    changed = [name for name, digest in identity.items() if known.get(name) != digest]
    if changed:
        raise StudyError(
            f"study {study.study_name!r} was made with another {' and another '.join(changed)}, so its results are not "
            "this search's; give another name, or leave study= out to have one made from what decides the results"
        )
