from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import pydantic
import pytest
from annotated_types import Interval
from pydantic import AfterValidator, BaseModel, PositiveInt

from dspex.errors import DefinitionError
from dspex.signatures import InputField, OutputField, Signature, ensure_signature

if TYPE_CHECKING:
    from somewhere import Elsewhere


class Address(BaseModel):
    city: str
    zip: str | None = None


class Extract(Signature):
    """Extract the parts of an address.

    Leave out what is not there.
    """

    text: str = InputField(desc="one line", max_length=200)
    hints: list[str] = InputField(default=[], prefix="Good to know:")
    address: Address = OutputField()
    sure: float = OutputField(ge=0, le=1, desc="how sure")
    kind: Literal["home", "work"] | None = OutputField()
    note = OutputField()


def test_everything_that_was_said_is_there() -> None:
    assert Extract.instructions == "Extract the parts of an address.\n\nLeave out what is not there."
    assert list(Extract.input_fields) == ["text", "hints"]
    assert list(Extract.output_fields) == ["address", "sure", "kind", "note"]
    text, hints, address, sure, kind, note = Extract.fields.values()
    assert (text.desc, text.prefix, text.required) == ("one line", "Text:", True)
    assert text.constraints == {"max_length": 200}
    assert (hints.default, hints.prefix, hints.required) == ([], "Good to know:", False)
    assert (address.annotation, kind.annotation) == (Address, Literal["home", "work"] | None)
    assert (kind.type_name, note.annotation) == ("Literal['home', 'work'] | None", str)
    assert sure.constraint_text == "at least 0, at most 1"
    assert not hasattr(Extract, "text")


def test_types_validate_with_their_constraints() -> None:
    sure = Extract.output_fields["sure"].adapter
    assert sure.validate_python("0.5") == 0.5
    with pytest.raises(pydantic.ValidationError, match="less than or equal to 1"):
        sure.validate_python(2)
    assert Extract.output_fields["sure"].json_schema == {"maximum": 1, "minimum": 0, "type": "number"}
    assert Extract.output_fields["address"].adapter.validate_python({"city": "Rome"}) == Address(city="Rome")
    assert sure is Extract.output_fields["sure"].adapter


def test_it_reads_well() -> None:
    assert repr(Extract) == (
        "<Signature Extract: text, hints: list[str] -> "
        "address: Address, sure: float, kind: Literal['home', 'work'] | None, note>"
    )
    assert Extract.describe() == "\n".join(
        [
            "Extract: text, hints: list[str] -> "
            "address: Address, sure: float, kind: Literal['home', 'work'] | None, note",
            "  Extract the parts of an address.",
            "",
            "  Leave out what is not there.",
            "  text: str = InputField(desc='one line', max_length=200)",
            "  hints: list[str] = InputField(prefix='Good to know:', default=[])",
            "  address: Address = OutputField()",
            "  sure: float = OutputField(desc='how sure', ge=0, le=1)",
            "  kind: Literal['home', 'work'] | None = OutputField()",
            "  note: str = OutputField()",
        ]
    )
    assert repr(Signature) == "<class 'Signature'>"


def test_types_of_a_function_and_of_the_class_itself() -> None:
    class Local(BaseModel):
        n: int

    class Sort(Signature):
        class Grade(enum.Enum):
            GOOD = "good"

        local: Local = InputField()
        grade: list[Grade] = OutputField()
        quoted: list["Local"] = OutputField()  # noqa: UP037 - the quotes are the point
        nested: dict[str, "Grade | None"] = OutputField()  # noqa: UP037 - the quotes are the point

    grade: Any = Sort.Grade
    assert [field.annotation for field in Sort.fields.values()] == [
        Local,
        list[grade],
        list[Local],
        dict[str, grade | None],
    ]


def test_annotated_types_give_description_and_constraints() -> None:
    class Count(Signature):
        text: Annotated[str, "what to count in"] = InputField()
        many: PositiveInt = OutputField(desc="how many")
        few: Annotated[int, pydantic.Field(ge=0, lt=9, description="how few")] = OutputField(le=5)
        code: Annotated[str, pydantic.Field(pattern="[a-z]+")] = OutputField()
        share: Annotated[float, Interval(gt=0, lt=1)] = OutputField()
        even: Annotated[int, AfterValidator(lambda value: value // 2 * 2)] = OutputField()

    assert Count.describe().splitlines()[2:] == [
        "  text: str = InputField(desc='what to count in')",
        "  many: int = OutputField(desc='how many', gt=0)",
        "  few: int = OutputField(desc='how few', ge=0, lt=9, le=5)",
        "  code: str = OutputField(pattern='[a-z]+')",
        "  share: float = OutputField(gt=0, lt=1)",
        "  even: int = OutputField()",
    ]
    assert Count.output_fields["even"].adapter.validate_python("7") == 6


def test_subclasses_add_replace_and_inherit() -> None:
    class Base(Signature, abstract=True):
        """Do it."""

        context: list[str] = InputField()

    class Ask(Base):
        question: str = InputField()
        answer: str = OutputField()

    class Rate(Ask):
        """Rate it."""

        answer: int = OutputField(ge=0)
        question: str = InputField(desc="new")

    class Mixin(Signature, abstract=True):
        tone: str = InputField()

    class Both(Mixin, Rate):
        pass

    assert Base.spec == "context: list[str] ->"
    assert (Ask.spec, Ask.instructions) == ("context: list[str], question -> answer", "Do it.")
    assert (Rate.spec, Rate.instructions) == ("context: list[str], question -> answer: int", "Rate it.")
    assert Rate.input_fields["question"].desc == "new"
    assert Ask.output_fields["answer"].annotation is str
    assert Both.spec == "context: list[str], question, tone -> answer: int"
    assert Both.instructions == "Rate it."
    assert issubclass(Both, Ask)


def test_methods_class_variables_and_private_names_are_left_alone() -> None:
    class Ask(Signature):
        LIMIT: ClassVar[int] = 3
        _seen = 0
        _kind: str
        question: str = InputField()
        answer: str = OutputField()

        @classmethod
        def limit(cls) -> int:
            return cls.LIMIT

        @staticmethod
        def twice(number: int) -> int:
            return number * 2

    assert (Ask.limit(), Ask.twice(2), Ask._seen) == (3, 4, 0)
    assert list(Ask.fields) == ["question", "answer"]


def test_fields_may_be_called_like_what_signatures_have() -> None:
    class Odd(Signature):
        instructions: str = InputField()
        fields: list[str] = InputField()
        append: int = OutputField()
        key: str = OutputField()

    assert Odd.spec == "instructions, fields: list[str] -> append: int, key"
    assert Odd.instructions == "Given the fields `instructions`, `fields`, produce the fields `append`, `key`."
    assert Odd.append("more", OutputField()).output_fields["more"].annotation is str


def test_a_model_that_refers_to_later_classes_is_checked_when_used() -> None:
    class Later(BaseModel):
        other: Latest

    signature = Signature("a -> b: Later")

    class Latest(BaseModel):
        n: int

    Later.model_rebuild(_types_namespace={"Latest": Latest})
    assert signature.output_fields["b"].adapter.validate_python({"other": {"n": 1}}) == Later(other=Latest(n=1))


def undeclared() -> None:
    class Wrong(Signature):
        question: str
        answer: str = OutputField()


def no_outputs() -> None:
    class Wrong(Signature):
        question: str = InputField()


def twice() -> None:
    class Wrong(Signature):
        answer: str = OutputField()
        answer: int = OutputField()  # type: ignore[no-redef]  # noqa: PIE794 - the point


def plain_value() -> None:
    class Wrong(Signature):
        answer = "text"


def pydantic_field() -> None:
    class Wrong(Signature):
        answer: str = pydantic.Field()


def instructions_attribute() -> None:
    class Wrong(Signature):
        instructions = "Answer."
        answer: str = OutputField()


def unknown_type() -> None:
    class Wrong(Signature):
        answer: Adress = OutputField()  # type: ignore[name-defined]  # noqa: F821 - the point


def type_checking_only() -> None:
    class Wrong(Signature):
        answer: list[Elsewhere] = OutputField()


def not_a_type() -> None:
    class Wrong(Signature):
        answer: 3 = OutputField()  # type: ignore[valid-type]


def unfit_constraint() -> None:
    class Wrong(Signature):
        answer: str = OutputField(ge=0)


def unfit_union() -> None:
    class Wrong(Signature):
        answer: int | list[str] | None = OutputField(max_length=3)


def bad_pattern() -> None:
    class Wrong(Signature):
        answer: str = OutputField(pattern="(")


def unknown_constraint() -> None:
    OutputField(maxlength=3)


def description() -> None:
    InputField(description="what it is")


def output_default() -> None:
    OutputField(default="")


def desc_no_text() -> None:
    InputField(desc=3)  # type: ignore[arg-type]


def bad_default() -> None:
    class Wrong(Signature):
        count: int = InputField(default="many")
        answer: str = OutputField()


def taken_name() -> None:
    class Wrong(Signature):
        id: str = InputField()
        answer: str = OutputField()


def called() -> None:
    Extract(text="x")


def called_bare() -> None:
    Signature(text="x")


WRONG = [
    (undeclared, r"^Wrong\.question does not say whether it .*Right:  question: str = InputField\(\)"),
    (no_outputs, r"^the signature Wrong has no outputs.*Right:  .*OutputField\(\).*abstract=True"),
    (twice, r"^there are two fields named 'answer' in one signature\.\nWrong: .*Right:  two names"),
    (plain_value, r"^Wrong\.answer = 'text' \(str\) is neither .*Right:  answer: str = InputField"),
    (pydantic_field, r"^Wrong\.answer = FieldInfo.* is neither an input nor an output"),
    (instructions_attribute, r"^Wrong\.instructions = 'Answer\.': .*write the instructions as the docstring"),
    (unknown_type, r"no type 'Adress' here, in `answer: Adress`; did you mean 'Address'\?"),
    (type_checking_only, r"^Wrong\.answer: there is no type 'Elsewhere' here.*import it, or define it above"),
    (not_a_type, r"^Wrong\.answer: 3 \(int\) is not a type\.\nRight: "),
    (unfit_constraint, r"^output 'answer': ge=0 says nothing about a str, which takes min_length, .*Right: "),
    (unfit_union, r"^output 'answer': max_length=3 says nothing about a int"),
    (bad_pattern, r"^output 'answer' cannot be str with pattern='\(': .*Wrong:  answer: str = Output"),
    (unknown_constraint, r"^OutputField\(maxlength=3\): .*takes no 'maxlength'; write max_length=\.\.\."),
    (description, r"^InputField\(description='what it is'\): .* write desc='\.\.\.'"),
    (
        output_default,
        r"^OutputField\(default=''\): an output comes .*Right:  note: str \| None = Output",
    ),
    (desc_no_text, r"^InputField\(desc=3\): desc is text, got int"),
    (bad_default, r"^input 'count': the default 'many' \(str\) is no valid int: .*Wrong:  count: int = "),
    (taken_name, r"^the input 'id' cannot have that name.*Wrong:  id: str\nRight:  record_id: str"),
    (called, r"^Extract is a signature.*Right:  Predict\(Extract\)\(text=\.\.\.\)"),
    (called_bare, r"^Signature is a signature.*Right:  Predict\('question -> answer'\)\(text=\.\.\.\)"),
]


@pytest.mark.parametrize(("define", "message"), WRONG, ids=[define.__name__ for define, _ in WRONG])
def test_what_cannot_be_meant_fails_where_it_is_written(define: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match="(?s)" + message):
        define()


def test_ensure_signature_makes_or_passes() -> None:
    assert ensure_signature(Extract) is Extract
    assert ensure_signature("a -> b: Address").output_fields["b"].annotation is Address
    replaced = ensure_signature(Extract, "Do it.")
    assert (replaced.instructions, replaced.spec) == ("Do it.", Extract.spec)
    with pytest.raises(DefinitionError, match=r"Signature has no outputs.*\nRight:  'question -> answer'"):
        ensure_signature(Signature)
    with pytest.raises(DefinitionError, match=r"a signature is text or a Signature class, got 3 \(int\)"):
        ensure_signature(3)  # type: ignore[arg-type]
