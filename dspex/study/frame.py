"""A study as a pandas table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from dspex.errors import StudyError
from dspex.trials import FrozenTrial

if TYPE_CHECKING:
    import pandas

    from dspex.study.study import Study

__all__ = ["ATTRIBUTES", "trials_dataframe"]

ATTRIBUTES = ("number", "value", "datetime_start", "datetime_complete", "duration", "params", "user_attrs", "state")

_KNOWN = frozenset(field.name for field in attrs.fields(FrozenTrial)) | {"value", "duration", "last_step", "feasible"}


def trials_dataframe(study: Study, names: Sequence[str], multi_index: bool) -> pandas.DataFrame:
    """See `Study.trials_dataframe`."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError("trials_dataframe needs pandas; write  pip install 'dspex[pandas]'") from error
    unknown = [name for name in names if name not in _KNOWN]
    if isinstance(names, str) or unknown:
        raise StudyError(f"attrs must be a list of {', '.join(sorted(_KNOWN))}; got {names!r}")
    objectives: Sequence[Any] = study.metric_names or (
        [""] if len(study.directions) == 1 else range(len(study.directions))
    )
    rows = [_row(study, trial, names, objectives) for trial in study.trials]
    # In the order of `attrs`, and within one of them of appearance.
    columns = {
        column: None for name in names for row in rows for column in row if column[0] == _column(name, objectives)
    }
    table = {column: [row.get(column) for row in rows] for column in columns}
    if multi_index:
        return pandas.DataFrame(table, columns=pandas.MultiIndex.from_tuples(list(table)) if table else None)
    return pandas.DataFrame({_joined(column): values for column, values in table.items()})


Column = tuple[str, Any]


def _row(study: Study, trial: FrozenTrial, names: Sequence[str], objectives: Sequence[Any]) -> dict[Column, Any]:
    row: dict[Column, Any] = {}
    for name in names:
        column = _column(name, objectives)
        if name in ("value", "values"):
            values = trial.values or (None,) * len(objectives)
            row.update(((column, key), value) for key, value in zip(objectives, values, strict=True))
            continue
        value: Any = study.values(trial) if name == "params" else getattr(trial, name)
        if name == "state":
            value = trial.state.name
        if isinstance(value, Mapping):
            row.update(((column, key), part) for key, part in value.items())
        else:
            row[column, ""] = value
    return row


def _column(name: str, objectives: Sequence[Any]) -> str:
    if name in ("value", "values"):
        return "value" if len(objectives) == 1 and not objectives[0] else "values"
    return name


def _joined(column: Column) -> str:
    name, key = column
    return name if key == "" else f"{name}_{key}"
