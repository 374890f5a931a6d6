"""Examples from files and rows; what is malformed is named by file and line."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from dspex.data.example import Example
from dspex.errors import DataError

__all__ = ["from_dicts", "load_csv", "load_jsonl", "require_examples"]


def from_dicts(
    rows: Iterable[Mapping[str, Any]],
    *,
    inputs: Sequence[str] | str | None = None,
    rename: Mapping[str, str] | None = None,
) -> list[Example]:
    """One example per mapping; ``inputs`` names the input fields, ``rename`` maps old field names to new.

    Raises `DataError` naming the row that is no mapping or lacks an input.

    >>> from_dicts([{"q": "2 + 2?", "answer": 4}], inputs="question", rename={"q": "question"})
    [Example(question='2 + 2?', answer=4).with_inputs('question')]
    """
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise DataError(
            f"from_dicts takes a list of mappings, got {_short(rows)} ({type(rows).__name__}); "
            f"write from_dicts([{{'question': '...', 'answer': '...'}}, ...], inputs='question')."
        )
    made = _Rows(inputs, rename)
    for index, row in enumerate(rows):
        made.add(row, f"rows[{index}]")
    return made.done("rows")


def load_jsonl(
    path: str | PathLike[str],
    *,
    inputs: Sequence[str] | str | None = None,
    rename: Mapping[str, str] | None = None,
    encoding: str = "utf-8-sig",
) -> list[Example]:
    """One example per line of a JSON Lines file; blank lines are passed over.

    Raises `DataError` naming file and line for what is no JSON object, and for a field taken or missing.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "data.jsonl"
    >>> _ = path.write_text('{"question": "2 + 2?", "answer": 4}')
    >>> load_jsonl(path, inputs="question")
    [Example(question='2 + 2?', answer=4).with_inputs('question')]
    """
    made = _Rows(inputs, rename)
    for number, line in enumerate(_lines(path, encoding), start=1):
        if line.strip():
            place = f"{path}, line {number}"
            made.add(_json_object(line.rstrip("\r\n"), place), place)
    return made.done(str(path))


def load_csv(
    path: str | PathLike[str],
    *,
    inputs: Sequence[str] | str | None = None,
    rename: Mapping[str, str] | None = None,
    types: Mapping[str, Callable[[str], Any]] | None = None,
    delimiter: str = ",",
    encoding: str = "utf-8-sig",
) -> list[Example]:
    """One example per row of a CSV file whose first row names the fields.

    Values are text; ``types`` turns those of a field into something else, as in ``types={"stars": int}`` (by
    the field's name after renaming). Raises `DataError` naming file and line for rows that do not fit the
    header, quotes that do not close and values that ``types`` refuses.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "data.csv"
    >>> _ = path.write_text("review,stars\\nFine.,4\\n")
    >>> load_csv(path, inputs="review", types={"stars": int})
    [Example(review='Fine.', stars=4).with_inputs('review')]
    """
    made = _Rows(inputs, rename)
    _check_mapping("types", types, "{'stars': int}")
    for field, kind in (types or {}).items():
        if not callable(kind):
            raise DataError(
                f"types[{field!r}] = {_shown(kind)} cannot be called; write a type, as in {{{field!r}: int}}."
            )
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise DataError(f"delimiter = {_shown(delimiter)} is not one character; write for example delimiter=';'.")
    rows = _csv_rows(path, delimiter, encoding)
    header = next(rows, (1, []))[1]
    if not header:
        raise DataError(f"{path} is empty: its first row must name the fields, as in 'question,answer'.")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{path}, line 1: the header names {', '.join(map(repr, twice))} more than once.")
    names = {column: (rename or {}).get(column, column) for column in header}
    unknown = [name for name in types or {} if name not in names.values()]
    if unknown:
        raise DataError(
            f"types= names {', '.join(map(repr, unknown))}, but the fields of {path} are "
            f"{', '.join(map(repr, names.values()))}."
        )
    for number, cells in rows:
        place = f"{path}, line {number}"
        if len(cells) != len(header):
            raise DataError(
                f"{place} has {len(cells)} values, but the header names {len(header)} fields "
                f"({', '.join(map(repr, header))}). "
                f"Quote values that contain {delimiter!r}, or give delimiter=."
            )
        fields: dict[str, Any] = dict(zip(header, cells, strict=True))
        for column, name in names.items():
            convert = (types or {}).get(name)
            if convert is not None:
                fields[column] = _converted(fields[column], convert, name, place)
        made.add(fields, place)
    return made.done(str(path))


def require_examples(examples: Iterable[Any], *, name: str = "trainset", inputs: bool = True) -> list[Example]:
    """``examples`` as a list, when they can be learnt from or measured on.

    Raises `DataError` that says what to write when there are none, when one is no `Example`, and (unless
    ``inputs=False``) when one does not say which of its fields are inputs. ``name`` is the argument's name.

    >>> require_examples([Example(question="2 + 2?", answer=4)])
    Traceback (most recent call last):
    ...
    dspex.errors.DataError: trainset[0] does not say which of its fields are inputs: \
Example(question='2 + 2?', answer=4).
    Write: trainset = [example.with_inputs('question', ...) for example in trainset]
    """
    if isinstance(examples, str | bytes | Mapping) or not isinstance(examples, Iterable):
        raise DataError(
            f"{name} must be a list of examples, got {_short(examples)} ({type(examples).__name__})."
            f"\nWrite: {name} = [Example(question=..., answer=...).with_inputs('question'), ...], "
            f"or load_jsonl(path, inputs='question')"
        )
    found = list(examples)
    if not found:
        raise DataError(
            f"{name} is empty: there is nothing to run the program on."
            f"\nWrite: {name} = [Example(question=..., answer=...).with_inputs('question'), ...]"
        )
    for index, example in enumerate(found):
        if not isinstance(example, Example):
            fields = ", ".join(map(repr, example)) if isinstance(example, Mapping) else ""
            write = (
                f"from_dicts({name}, inputs=(...)), whose fields are {fields}"
                if fields
                else f"{name} = [Example(question=..., answer=...).with_inputs('question'), ...]"
            )
            raise DataError(
                f"{name}[{index}] must be an Example, got {_short(example)} ({type(example).__name__}).\nWrite: {write}"
            )
        if inputs and example.input_keys is None:
            some = next(iter(example), "question")
            raise DataError(
                f"{name}[{index}] does not say which of its fields are inputs: {_short(example)}."
                f"\nWrite: {name} = [example.with_inputs({some!r}, ...) for example in {name}]"
            )
    return found


class _Rows:
    """Makes examples of rows, and knows at the end whether each name in ``rename`` was met."""

    def __init__(self, inputs: Sequence[str] | str | None, rename: Mapping[str, str] | None) -> None:
        if inputs is not None and not isinstance(inputs, Iterable):
            raise DataError(
                f"inputs = {_shown(inputs)} are no names of fields; write inputs='question' or a list of names."
            )
        _check_mapping("rename", rename, "{'q': 'question'}")
        # One name is meant as one name, not as its letters.
        self._inputs = (inputs,) if isinstance(inputs, str) else None if inputs is None else tuple(inputs)
        self._rename = dict(rename or {})
        self._unmet = set(self._rename)
        self._examples: list[Example] = []

    def add(self, row: Mapping[str, Any], place: str) -> None:
        if not isinstance(row, Mapping):
            raise DataError(
                f"{place} is {_short(row)} ({type(row).__name__}), not a mapping of field names to values, "
                f"as in {{'question': '...', 'answer': '...'}}."
            )
        fields = dict(row)
        if self._rename:
            fields = self._renamed(row, place)
        try:
            example = Example(fields)
            self._examples.append(example if self._inputs is None else example.with_inputs(*self._inputs))
        except DataError as error:
            raise DataError(f"{place}: {error}") from None

    def _renamed(self, row: Mapping[str, Any], place: str) -> dict[str, Any]:
        self._unmet.difference_update(row)
        fields: dict[str, Any] = {}
        for name, value in row.items():
            name = self._rename.get(name, name)
            if name in fields:
                raise DataError(f"{place}: after renaming, two fields are called {name!r}; rename one otherwise.")
            fields[name] = value
        return fields

    def done(self, source: str) -> list[Example]:
        if self._unmet and self._examples:
            names = ", ".join(map(repr, sorted(self._unmet)))
            raise DataError(
                f"rename= names {names}, which {source} does not have; the fields of its first row are "
                f"{', '.join(map(repr, self._examples[0]))}."
            )
        return self._examples


def _check_mapping(name: str, value: Any, right: str) -> None:
    if value is not None and not isinstance(value, Mapping):
        raise DataError(f"{name} = {_shown(value)} is no mapping; write for example {name}={right}.")


def _lines(path: str | PathLike[str], encoding: str) -> Iterator[str]:
    if not isinstance(path, str | PathLike):
        raise DataError(f"path = {_shown(path)} is no path; write for example 'data.jsonl' or Path('data.jsonl').")
    try:
        with Path(path).open(encoding=encoding, newline="") as file:
            yield from file
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error} ({Path(path).absolute()}).") from None
    except LookupError:
        raise DataError(f"there is no encoding {encoding!r}; write for example encoding='latin-1'.") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {_undecodable_line(path, encoding)} is not {error.encoding} text "
            f"({error.reason}); give the file's encoding, for example encoding='latin-1'."
        ) from None


def _undecodable_line(path: str | PathLike[str], encoding: str) -> int:
    # Files are decoded in blocks, so the error itself does not tell the line. Undecodable bytes are escaped
    # as lone surrogates, which nothing else makes.
    with Path(path).open(encoding=encoding, errors="surrogateescape") as file:
        lines = enumerate(file, start=1)
        return next((number for number, line in lines if any("\udc80" <= c <= "\udcff" for c in line)), 1)


def _json_object(line: str, place: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=_pairs)
    except json.JSONDecodeError as error:
        start = max(0, error.pos - 40)
        excerpt = line[start : error.pos + 40]
        raise DataError(
            f"{place} is no JSON: {error.msg} at column {error.colno}.\n    {excerpt}\n    {' ' * (error.pos - start)}^"
        ) from None
    except (_TwiceError, RecursionError) as error:
        raise DataError(f"{place}: {error}.") from None
    if not isinstance(row, dict):
        raise DataError(
            f"{place} is {_short(row)} ({type(row).__name__}), not a JSON object such as "
            f'{{"question": "...", "answer": "..."}}.'
        )
    return row


class _TwiceError(Exception):
    pass


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _TwiceError(f"the field {twice!r} is there more than once")
    return fields


def _csv_rows(path: str | PathLike[str], delimiter: str, encoding: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, values) of the rows that are not blank; a row over several lines counts by its last."""
    # Documents are longer than the csv module's default limit of 131,072 characters a value.
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.reader(_lines(path, encoding), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(
            f'{path}, line {reader.line_num}: {error}. A value with quotes in it is written "like ""this"" one".'
        ) from None


def _converted(text: str, convert: Callable[[str], Any], name: str, place: str) -> Any:
    try:
        return convert(text)
    except Exception as error:
        kind = getattr(convert, "__name__", repr(convert))
        raise DataError(f"{place}: {name}={text!r} is no {kind}: {error}.") from error


def _shown(value: Any) -> str:
    return f"{_short(value)} ({type(value).__name__})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
