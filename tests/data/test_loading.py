from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dspex.data import Example, Prediction, from_dicts, load_csv, load_jsonl, require_examples
from dspex.errors import DataError


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(text: str | bytes, name: str = "data") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return written


def test_rows_become_examples_with_inputs() -> None:
    rows = [{"q": "2 + 2?", "a": 4}, {"q": "1 + 1?", "a": 2, "note": ""}]
    examples = from_dicts(rows, inputs=["question"], rename={"q": "question"})
    assert [example.question for example in examples] == ["2 + 2?", "1 + 1?"]
    assert all(example.input_keys == {"question"} for example in examples)
    assert from_dicts([], inputs="question") == []
    assert rows[0] == {"q": "2 + 2?", "a": 4}


def test_rows_that_do_not_fit_are_named() -> None:
    with pytest.raises(DataError, match=r"rows\[1\] is 3 \(int\), not a mapping"):
        from_dicts([{"a": 1}, 3])  # type: ignore[list-item]
    with pytest.raises(DataError, match=r"rows\[1\]: with_inputs\('a'\): the example has no field 'a'; .* 'b'"):
        from_dicts([{"a": 1}, {"b": 1}], inputs="a")
    with pytest.raises(DataError, match=r"rows\[0\]: an Example cannot have a field named 'id'.*rename="):
        from_dicts([{"id": 1}])
    with pytest.raises(DataError, match=r"from_dicts takes a list of mappings, got {'a': 1} \(dict\); write"):
        from_dicts({"a": 1})  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"got None \(NoneType\)"):
        from_dicts(None)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"rename= names 'idd', which rows does not have; .* 'a'"):
        from_dicts([{"a": 1}], rename={"idd": "b"})
    with pytest.raises(DataError, match=r"rows\[0\]: after renaming, two fields are called 'b'"):
        from_dicts([{"a": 1, "b": 2}], rename={"a": "b"})


def test_jsonl_with_blank_lines_a_byte_order_mark_and_windows_ends(write: Any) -> None:
    path = write(b'\xef\xbb\xbf{"q": "\xc3\xa9", "n": [1, 2]}\r\n\r\n{"q": "b\\u2028", "n": null}')
    first, second = load_jsonl(path, inputs="q")
    assert first == Example(q="é", n=[1, 2])
    assert second.to_dict() == {"q": "b\u2028", "n": None}
    assert second.input_keys == {"q"}
    assert load_jsonl(str(path)) == [first, second]


def test_an_empty_jsonl_file_has_no_examples(write: Any) -> None:
    assert load_jsonl(write("\n\n"), inputs="q") == []


def test_malformed_json_is_shown_with_file_line_and_place(write: Any) -> None:
    path = write('{"a": 1}\n\n{"a": 1, b: 2}\n')
    with pytest.raises(DataError) as caught:
        load_jsonl(path)
    assert str(caught.value) == (
        f"{path}, line 3 is no JSON: Expecting property name enclosed in double quotes at column 10.\n"
        '    {"a": 1, b: 2}\n'
        "             ^"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", r"line 1 is \[1, 2\] \(list\), not a JSON object"),
        ('{"a": 1, "a": 2}', r"line 1: the field 'a' is there more than once"),
        ('{"a": 1}\n{"b": 1}', r"line 2: with_inputs\('a'\): the example has no field 'a'"),
        ('{"a": 1, "id": 3}', r"line 1: .* field named 'id'.*load_jsonl\(path, rename={'id': 'record_id'}\)"),
        ('{"a": 1', r"line 1 is no JSON"),
    ],
)
def test_jsonl_rows_that_do_not_fit(write: Any, text: str, message: str) -> None:
    path = write(text)
    with pytest.raises(DataError, match=message) as caught:
        load_jsonl(path, inputs="a")
    assert str(path) in str(caught.value)


def test_a_taken_name_can_be_renamed_while_loading(write: Any) -> None:
    (example,) = load_jsonl(write('{"id": 3, "q": "x"}'), inputs="q", rename={"id": "record_id"})
    assert example.record_id == 3


def test_files_that_cannot_be_read_are_named(tmp_path: Path, write: Any) -> None:
    with pytest.raises(DataError, match=r"absent\.jsonl cannot be read: No such file or directory \(/"):
        load_jsonl(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        load_csv(tmp_path)
    path = write(b'{"a": 1}\n' * 3000 + b'{"a": "\xff"}\n{"a": 2}\n')
    with pytest.raises(DataError, match=r"line 3001 is not utf-8 text .*encoding='latin-1'"):
        load_jsonl(path)
    assert load_jsonl(path, encoding="latin-1")[3000].a == "\xff"


def test_csv_with_quotes_line_breaks_and_types(write: Any) -> None:
    path = write('\ufefftext,stars\r\n"Fine, ""really"".\nYes.",4\r\n\r\nBad.,1\r\n')
    examples = load_csv(path, inputs="text", types={"stars": int})
    assert [example.to_dict() for example in examples] == [
        {"text": 'Fine, "really".\nYes.', "stars": 4},
        {"text": "Bad.", "stars": 1},
    ]
    assert examples[0].input_keys == {"text"}


def test_csv_with_another_delimiter_and_a_very_long_value(write: Any) -> None:
    (example,) = load_csv(write("a\tb\n" + "x" * 200_000 + "\ty\n"), delimiter="\t")
    assert len(example.a) == 200_000


@pytest.mark.parametrize(
    ("text", "keywords", "message"),
    [
        ("", {}, r"is empty: its first row must name the fields"),
        ("a,b,a\n1,2,3\n", {}, r"line 1: the header names 'a' more than once"),
        ("a,b\n1,2\n1,2,3\n", {}, r"line 3 has 3 values, but the header names 2 fields \('a', 'b'\)\. Quote"),
        ("a,b\n1\n", {}, r"line 2 has 1 values"),
        ('a,b\n"1,2\n', {}, r"line 2: unexpected end of data"),
        ('a,b\n"1"x,2\n', {}, r"line 2: ',' expected after '\"'\. A value with quotes"),
        ("a,b\n1,x\n", {"types": {"b": int}}, r"line 2: b='x' is no int: invalid literal"),
        ("a,b\n1,2\n", {"types": {"c": int}}, r"types= names 'c', but the fields of .* are 'a', 'b'"),
        ("a,b\n1,2\n", {"inputs": "c"}, r"line 2: .* no field 'c'"),
        ("a,b\n1,2\n", {"rename": {"c": "d"}}, r"rename= names 'c'"),
    ],
)
def test_csv_that_does_not_fit(write: Any, text: str, keywords: dict[str, Any], message: str) -> None:
    path = write(text)
    with pytest.raises(DataError, match=message) as caught:
        load_csv(path, **keywords)
    assert str(path) in str(caught.value)


def test_csv_renames_before_types(write: Any) -> None:
    (example,) = load_csv(write("n\n1\n"), rename={"n": "count"}, types={"count": int})
    assert example.count == 1


def test_required_examples_come_back_as_a_list() -> None:
    examples = (Example(q=1).with_inputs("q"), Example(q=2).with_inputs("q"))
    assert require_examples(iter(examples)) == list(examples)
    assert require_examples([Example(q=1)], inputs=False) == [Example(q=1)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], r"^valset is empty: .*\nWrite: valset = \[Example\(.*\)\.with_inputs\('question'\), \.\.\.\]"),
        (
            [Example(q=1)],
            r"^valset\[0\] does not say .*: Example\(q=1\)\.\nWrite: .*example\.with_inputs\('q', \.\.\.\)",
        ),
        ([{"q": 1}], r"^valset\[0\] must be an Example, got {'q': 1} \(dict\)\.\nWrite: from_dicts\(valset"),
        ([Prediction(q=1)], r"must be an Example, got Prediction\(q=1\) \(Prediction\)"),
        ([("a", "b")], r"must be an Example, got \('a', 'b'\) \(tuple\)"),
        (
            "data.jsonl",
            r"^valset must be a list of examples, got 'data.jsonl' \(str\)\.\nWrite: .*load_jsonl",
        ),
        (None, r"^valset must be a list of examples, got None \(NoneType\)"),
        ({"q": 1}, r"^valset must be a list of examples"),
    ],
)
def test_what_nothing_can_be_learnt_from_says_what_to_write(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        require_examples(given, name="valset")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": 5}, r"inputs = 5 \(int\) are no names of fields; write inputs='question'"),
        ({"rename": "q"}, r"rename = 'q' \(str\) is no mapping; write for example rename={'q': 'question'}"),
        ({"types": ["q"]}, r"types = \['q'\] \(list\) is no mapping; write for example types={'stars': int}"),
        ({"types": {"q": "int"}}, r"types\['q'\] = 'int' \(str\) cannot be called; write a type, as in {'q': int}"),
        ({"delimiter": ";;"}, r"delimiter = ';;' \(str\) is not one character"),
        ({"delimiter": 3}, r"delimiter = 3 \(int\) is not one character"),
        ({"encoding": "utf-9"}, r"there is no encoding 'utf-9'; write for example"),
    ],
)
def test_arguments_of_the_wrong_type(write: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_csv(write("q,a\n1,2\n"), **arguments)


def test_a_path_that_is_none() -> None:
    with pytest.raises(DataError, match=r"path = None \(NoneType\) is no path; write for example 'data.jsonl'"):
        load_jsonl(None)  # type: ignore[arg-type]
