"""Saved programs: values that come back, and files that cannot be what they claim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dspex import Example, Module, Predict, variable
from dspex.errors import StateError, StorageError
from dspex.variables import Float, Int


class Program(Module):
    k = variable(Int(1, 9), default=3)

    def __init__(self) -> None:
        self.answer = Predict("question -> answer", temperature=Float(0, 1))


def changed() -> Program:
    demos = (Example(question="1+1", answer="2").with_inputs("question"),)
    return Program().bind(
        {"k": 5, "answer.instructions": "Be “brief”.", "answer.demos": demos, "answer.temperature": 0.25}
    )


def test_a_saved_program_comes_back_with_the_same_values(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "program.json"
    changed().save(path)
    loaded = Program().load(path)
    assert loaded.k == 5
    assert loaded.answer.instructions == "Be “brief”."
    assert loaded.answer.demos[0].inputs().to_dict() == {"question": "1+1"}
    assert loaded.answer.temperature == 0.25
    assert loaded.state().fingerprint == changed().state().fingerprint
    assert [p.name for p in path.parent.iterdir()] == ["program.json"]


def test_what_was_frozen_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    for program in (
        Program().freeze("k", "answer.instructions"),
        Program().freeze("*"),
        Program().unfreeze("*"),
        Program(),
    ):
        program.save(path)
        for own in (Program(), Program().freeze("k", "answer.demos"), Program().unfreeze("*")):
            loaded = own.load(path)
            assert loaded.space().tunable == program.space().tunable
            assert loaded.bind({"k": 7}).space().tunable == program.space().tunable
    assert Program().space().tunable == ("k", "answer.instructions", "answer.demos", "answer.temperature")


def test_what_a_frozen_link_was_comes_back(tmp_path: Path) -> None:
    class Linked(Module):
        k = variable(Int(1, 9), default=3)

        def __init__(self) -> None:
            self.inner = Inner()
            self.inner.k = Linked.k

    class Inner(Module):
        k = variable(Int(1, 9), default=3)

    path = tmp_path / "p.json"
    Linked().freeze("k").save(path)
    assert Linked().load(path).space().tunable == ()


def test_loading_after_the_default_of_the_code_changed_still_gives_the_saved_values(tmp_path: Path) -> None:
    class Program2(Program):
        k = variable(Int(1, 9), default=4)

    path = tmp_path / "p.json"
    Program().save(path)
    assert Program2().load(path).k == 3


def test_another_space_is_explained_as_a_difference(tmp_path: Path) -> None:
    class Other(Module):
        k = variable(Int(1, 7), default=3)
        extra = variable(Int(1, 2))

    path = tmp_path / "p.json"
    changed().save(path)
    with pytest.raises(StateError) as caught:
        Other().load(path)
    text = str(caught.value)
    for part in ("Program", "answer.instructions", "extra", "Int(1, 7)", "Int(1, 9)", "bind"):
        assert part in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{ not json", "is not JSON"),
        ("[]", "not a saved program"),
        ('{"format": "other"}', "not a saved program"),
        ('{"format": "dspex.program", "schema": 99}', "has schema 99"),
        ('{"format": "dspex.program", "schema": 1, "signatures": null}', "it has no `signatures`"),
        ('{"format": "dspex.program", "schema": 1, "signatures": {}}', "it has no `space`"),
    ],
)
def test_files_that_are_no_saved_program(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "p.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(StorageError, match=message):
        Program().load(path)


def test_a_value_that_was_tampered_with_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    changed().save(path)
    document: Any = json.loads(path.read_text())
    text = json.dumps(document).replace('"k": 5', '"k": 500')
    assert "500" in text
    path.write_text(text)
    program = Program()
    with pytest.raises(StateError, match="k"):
        program.load(path)
    assert program.k == 3
    assert program.answer.temperature == 0.0


def test_others_may_read_a_saved_program(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    Program().save(path)
    assert path.stat().st_mode & 0o444 == 0o444
    path.chmod(0o640)
    Program().save(path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_program_of_another_signature_is_refused(tmp_path: Path) -> None:
    Predict("question -> reply").save(tmp_path / "p.json")
    with pytest.raises(
        StateError,
        match=r"predictor at the root had the signature .question -> reply'; here it is 'question -> answer'",
    ):
        Predict("question -> answer").load(tmp_path / "p.json")


def test_a_file_whose_space_is_not_the_one_it_names_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    Program().save(path)
    document = json.loads(path.read_text())
    for damage in ({"space_hash": "0"}, {}):
        del document["space_hash"]
        document.update(damage)
        path.write_text(json.dumps(document))
        with pytest.raises(StorageError, match=r"is damaged: its `space_hash` is ('0'|None), but its `space` has"):
            Program().load(path)


def test_half_a_surrogate_pair_in_what_a_model_wrote_is_saved_and_loaded(tmp_path: Path) -> None:
    text = "caf\u00e9 \\\ud83d\x00"
    program = Program().bind({"answer.instructions": text, "answer.demos": [Example(question=text, answer="2")]})
    program.save(tmp_path / "p.json")
    loaded = Program().load(tmp_path / "p.json")
    assert loaded.answer.instructions == loaded.answer.demos[0].question == text
    assert "caf\u00e9" in (tmp_path / "p.json").read_text("utf-8")
