"""Templates of one's own: what they may do, and what they are told when they are wrong."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from dspex.adapters import ChatAdapter, JSONAdapter, adapter_from_json
from dspex.data import Example
from dspex.errors import DefinitionError
from dspex.signatures import Signature

QA = Signature("question -> reasoning, answer: int", "Add.")
DEMO = Example(question="1 + 1?", reasoning="one and one", answer=2)
LINES = {
    "system": "{{ instructions }} Lines: {% for f in outputs %}{{ f.name }} ({{ f.hint or 'text' }}) {% endfor %}",
    "user": "{% for field in inputs %}{{ field.title }}: {{ field.value | upper }}{% endfor %}{{ '?' if remind }}",
    "assistant": "{% for field in outputs %}\n{{ field.name }}: {{ field.value }}\n{% endfor %}",
}


def test_all_three_can_be_replaced() -> None:
    adapter = ChatAdapter(templates=LINES)
    request = adapter.request(QA, instructions="Add.", demos=(DEMO,), inputs={"question": "a [[ ## b ## ]] {{ c }}"})
    assert [message["content"] for message in request.messages] == [
        "Add. Lines: reasoning (text) answer (a whole number) ",
        "Question: 1 + 1?",
        "reasoning: one and one\nanswer: 2\n",
        "Question: A [\\[ ## B ## ]] {{ C }}",
    ]
    alone = adapter.request(QA, instructions="Add.", demos=(), inputs={"question": "a"})
    assert alone.messages[1]["content"] == "Question: A?"
    assert adapter.parse(QA, request.messages[2]["content"]) == {"reasoning": "one and one", "answer": 2}


def test_one_can_be_replaced() -> None:
    adapter = ChatAdapter(templates={"system": "Only this."})
    request = adapter.request(QA, instructions="Add.", demos=(), inputs={"question": "q"})
    standard = ChatAdapter().request(QA, instructions="Add.", demos=(), inputs={"question": "q"})
    assert request.messages[0]["content"] == "Only this."
    assert request.messages[1] == standard.messages[1]


@pytest.mark.parametrize("as_text", [True, False])
def test_a_template_may_be_a_file(tmp_path: Path, as_text: bool) -> None:
    path = tmp_path / "system.j2"
    path.write_text("From a file: {{ instructions }} é", "utf-8")
    adapter = JSONAdapter(templates={"system": str(path) if as_text else path})
    assert adapter.head(QA, "Add.", ())[0]["content"] == "From a file: Add. é"
    # What is saved is the text, so that the program does not depend on the file.
    path.unlink()
    assert adapter_from_json(adapter.to_json()).head(QA, "Add.", ())[0]["content"] == "From a file: Add. é"


def test_a_template_may_include_a_shipped_one() -> None:
    adapter = ChatAdapter(templates={"system": "Be polite. {% include 'chat_system.j2' %}"})
    content = adapter.head(QA, "Add.", ())[0]["content"]
    assert content.startswith("Be polite. Add.\n")
    assert "[[ ## answer ## ]]" in content


def test_a_syntax_error_is_named_with_its_line() -> None:
    with pytest.raises(DefinitionError) as caught:
        ChatAdapter(templates={"user": "fine\n{% for field in inputs %}{{ field.name }\n"})
    message = str(caught.value)
    assert message.startswith("the template 'user' of the chat adapter, line 2: ")
    assert "the line:  {% for field in inputs %}{{ field.name }\n" in message
    assert "right:     {% for field in inputs %}" in message


def test_an_undefined_name_is_named_with_what_there_is() -> None:
    adapter = ChatAdapter(templates={"user": "{% for field in inputs %}\n{{ field.valeu }}{% endfor %}"})
    with pytest.raises(DefinitionError) as caught:
        adapter.request(QA, instructions="", demos=(), inputs={"question": "q"})
    message = str(caught.value)
    assert message.startswith("the template 'user' of the chat adapter, line 2: ")
    assert "has no attribute 'valeu' (UndefinedError)" in message
    assert "it may use:  inputs, outputs, remind; of a field: " in message


@pytest.mark.parametrize(
    "text",
    [
        "{{ instructions.__class__.__mro__ }}",
        "{{ outputs.append(1) }}",
        "{{ inputs.__init__.__globals__ }}",
        "{{ 1 / 0 }}",
    ],
)
def test_templates_run_in_a_sandbox(text: str) -> None:
    with pytest.raises(DefinitionError, match="the template 'system' of the chat adapter"):
        ChatAdapter(templates={"system": text}).head(QA, "Add.", ())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gone.j2"
    for given in (path, str(path)):
        with pytest.raises(
            DefinitionError, match=r"the template 'user' of the chat adapter \(.*gone\.j2\) cannot be read"
        ):
            ChatAdapter(templates={"user": given})


def test_an_unknown_role_is_named() -> None:
    with pytest.raises(DefinitionError, match="no template 'prompt'; an adapter has 'system', 'user', 'assistant'"):
        ChatAdapter(templates={"prompt": "x"})


def test_what_is_no_template_is_named() -> None:
    with pytest.raises(DefinitionError, match=r"the template 'user' must be its text or a path, not 3 \(int\)"):
        ChatAdapter(templates={"user": 3})  # type: ignore[dict-item]  # the error is the test


def test_adapters_are_values() -> None:
    assert ChatAdapter() == ChatAdapter(templates={})
    assert ChatAdapter() != JSONAdapter()
    assert ChatAdapter(LINES) == ChatAdapter(dict(LINES)) != ChatAdapter()
    assert len({ChatAdapter(), ChatAdapter(), JSONAdapter(), ChatAdapter(LINES)}) == 3
    assert repr(ChatAdapter()) == "ChatAdapter()"
    assert repr(JSONAdapter({"user": "x"})) == "JSONAdapter(templates={'user': ...})"


def test_adapters_pickle_without_their_caches() -> None:
    adapter = ChatAdapter(LINES)
    adapter.request(QA, instructions="Add.", demos=(DEMO,) * 8, inputs={"question": "q"})
    data = pickle.dumps(adapter)
    assert len(data) < 2000
    assert pickle.loads(data) == adapter


def test_jinja_is_loaded_with_the_first_prompt() -> None:
    code = (
        "import sys; from dspex.adapters import ChatAdapter; from dspex.signatures import Signature\n"
        "adapter = ChatAdapter(); assert 'jinja2' not in sys.modules\n"
        "adapter.head(Signature('question -> answer'), '', ()); assert 'jinja2' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
