"""Trials, evaluations and studies as the JSON text that a database keeps, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

import attrs

from dspex.data import Evaluation
from dspex.errors import DspexError, StorageError
from dspex.trials import AttrRecord, FrozenTrial, PoolRecord, StudyDirection, StudyRecord, TrialState
from dspex.trials.params import decode_param, encode_param
from dspex.variables import Domain, decode, encode

__all__ = [
    "attribute_from_text",
    "attribute_to_text",
    "dump",
    "evaluation_from_text",
    "load",
    "numbered",
    "pool_record",
    "pool_to_text",
    "study_record",
    "trial_from_text",
    "trial_to_text",
]


# ASCII, because a model may write half of a surrogate pair, which no database takes.
_dump = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def dump(data: Any) -> str:
    """Compact ASCII JSON. Infinite numbers and NaN are written as Python's `json` spells them."""
    return _dump(data)


def load(text: str, *, what: str) -> Any:
    """The data that `dump` wrote.

    Raises:
        StorageError: naming ``what`` when the text is damaged.
    """
    try:
        return json.loads(text)
    except (ValueError, TypeError) as error:
        raise _damaged(what, error) from error


def trial_to_text(trial: FrozenTrial) -> str:
    """Everything of a trial but its number."""
    params, domains = trial.params, trial.distributions
    return dump(
        {
            "state": trial.state.name,
            "params": {path: encode_param(domains[path], value) for path, value in params.items()},
            "distributions": {path: _domain_to_json(domain) for path, domain in domains.items()},
            "values": trial.values,
            "intermediate_values": list(trial.intermediate_values.items()),
            "constraints": dict(trial.constraints),
            "user_attrs": _encode_attrs(trial.user_attrs),
            "system_attrs": _encode_attrs(trial.system_attrs),
            "start": _time_to_json(trial.datetime_start),
            "complete": _time_to_json(trial.datetime_complete),
            "fingerprint": trial.fingerprint,
            "owner": trial.owner,
        }
    )


def trial_from_text(number: int, text: str) -> FrozenTrial:
    """The trial that `trial_to_text` wrote.

    Raises:
        StorageError: naming the trial when the text is damaged.
    """
    what = f"trial {number}"
    data = load(text, what=what)
    try:
        domains = {path: _domain_from_text(dump(domain)) for path, domain in data["distributions"].items()}
        return FrozenTrial(
            number=number,
            state=TrialState[data["state"]],
            params={path: decode_param(domains[path], value) for path, value in data["params"].items()},
            distributions=domains,
            values=None if data["values"] is None else tuple(data["values"]),
            intermediate_values={
                step: tuple(value) if isinstance(value, list) else value for step, value in data["intermediate_values"]
            },
            constraints=data["constraints"],
            user_attrs=_decode_attrs(data["user_attrs"]),
            system_attrs=_decode_attrs(data["system_attrs"]),
            datetime_start=_time_from_json(data["start"]),
            datetime_complete=_time_from_json(data["complete"]),
            fingerprint=data["fingerprint"],
            owner=data["owner"],
        )
    except (KeyError, TypeError, ValueError, AttributeError, DspexError) as error:
        raise _damaged(what, error) from error


def numbered(trial: FrozenTrial, number: int) -> FrozenTrial:
    """``trial`` under the number it got."""
    return attrs.evolve(trial, number=number)


def evaluation_from_text(text: str) -> Evaluation:
    """The row whose `Evaluation.to_json` was dumped."""
    data = load(text, what="an evaluation")
    try:
        return Evaluation.from_json(data)
    except (KeyError, TypeError, ValueError, AttributeError, DspexError) as error:
        raise _damaged("an evaluation", error) from error


def study_record(study_id: int, name: str, directions: str, space: str | None) -> StudyRecord:
    """A study from the columns that hold it."""
    what = f"study {name!r}"
    try:
        return StudyRecord(
            id=study_id,
            name=name,
            directions=tuple(StudyDirection.parse(item) for item in load(directions, what=what)),
            space=None if space is None else load(space, what=what),
        )
    except (TypeError, AttributeError, ValueError) as error:
        raise _damaged(what, error) from error


def pool_to_text(item: PoolRecord) -> str:
    """Everything of a candidate but its path and id."""
    return dump(
        {
            "domain": item.domain,
            "value": item.value,
            "parents": item.parents,
            "source": item.source,
            "note": item.note,
            "metadata": item.metadata,
        }
    )


def pool_record(path: str, item_id: str, text: str) -> PoolRecord:
    """The candidate that `pool_to_text` wrote."""
    what = f"candidate {item_id} of {path!r}"
    data = load(text, what=what)
    try:
        return PoolRecord(path=path, id=item_id, **{**data, "parents": tuple(data["parents"])})
    except (KeyError, TypeError) as error:
        raise _damaged(what, error) from error


def attribute_to_text(value: Any) -> str:
    """The value of one attribute of a study."""
    return dump(encode(value))


def attribute_from_text(kind: Any, key: str, text: str) -> AttrRecord:
    """The attribute whose value `attribute_to_text` wrote."""
    what = f"attribute {key!r}"
    try:
        return AttrRecord(kind, key, decode(load(text, what=what)))
    except (KeyError, TypeError, ValueError, AttributeError, DspexError) as error:
        raise error if isinstance(error, StorageError) else _damaged(what, error) from error


@lru_cache(maxsize=4096)
def _domain_to_json(domain: Domain[Any]) -> dict[str, Any]:
    return domain.to_json()


@lru_cache(maxsize=4096)
def _domain_from_text(text: str) -> Domain[Any]:
    domain: Domain[Any] = Domain.from_json(json.loads(text))
    return domain


def _encode_attrs(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: encode(value) for key, value in attributes.items()}


def _decode_attrs(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: decode(value) for key, value in data.items()}


def _time_to_json(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _time_from_json(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _damaged(what: str, error: Exception) -> StorageError:
    return StorageError(
        f"{what} cannot be read back: {type(error).__name__}: {error}. The stored text is damaged or was "
        "written by a newer dspex; restore the file from a copy, or upgrade"
    )
