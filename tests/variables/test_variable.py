"""Declared variables: the handle on the class, the value on the instance, opening and linking."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from dspex.errors import DefinitionError, StateError
from dspex.variables import (
    Bool,
    Choice,
    Derived,
    Float,
    Handle,
    Int,
    ModelChoice,
    Prompt,
    Slot,
    Subset,
    Variable,
    current_value,
    declared,
    derived,
    effective_domain,
    is_tunable,
    link_of,
    set_tunable,
    slot_of,
    variable,
)


class Retrieve:
    k = variable(Int(1, 100), default=3)


class Support:
    tone = variable(Choice("plain", "warm"), default="warm")
    depth = variable(Int(1, 5), default=3, doc="documents read per question")
    temperature = variable(Float(0.0, 2.0), default=None, tunable=False)
    tokens = derived(lambda depth: 100 * depth)


shared = variable(Float(0.0, 1.0), default=0.5)


class TestReading:
    def test_the_class_gives_the_handle_and_the_instance_the_value(self) -> None:
        assert isinstance(Support.depth, Variable)
        assert (Support.depth.name, Support.depth.owner, Support.depth.doc) == (
            "depth",
            Support,
            "documents read per question",
        )
        assert Support().depth == 3
        assert repr(Support.depth) == "<Variable Support.depth: Int(1, 5), default 3>"
        assert repr(shared) == "<Variable a free variable: Float(0.0, 1.0), default 0.5>"

    def test_the_default_is_the_first_value_where_none_is_given(self) -> None:
        assert variable(Subset("a", "b")).default == ()
        assert variable(Float(0.5, 1.0)).default == 0.5

    def test_the_default_is_kept_in_its_normal_form(self) -> None:
        assert variable(Subset("a", "b"), default=["b", "a"]).default == ("a", "b")  # type: ignore[call-overload]

    def test_instances_do_not_share_values(self) -> None:
        one, other = Support(), Support()
        one.depth = 5
        assert (one.depth, other.depth) == (5, 3)


class TestSetting:
    def test_a_value_is_validated_under_its_full_name(self) -> None:
        support = Support()
        with pytest.raises(
            StateError,
            match=r"^Support\.depth = 9 \(int\) does not fit Int\(1, 5\): write a whole number from 1 to 5\.$",
        ):
            support.depth = 9
        assert support.depth == 3

    def test_none_fits_where_it_is_the_default(self) -> None:
        support = Support()
        support.temperature = 1
        assert support.temperature == 1.0
        support.temperature = None
        assert support.temperature is None
        with pytest.raises(StateError, match=r"Support\.depth = None does not fit"):
            support.depth = None

    def test_deleting_goes_back_to_the_default(self) -> None:
        support = Support()
        support.depth = Int(1, 2)
        support.depth = 2
        del support.depth
        assert support.depth == 3
        assert slot_of(support, "depth") == Slot()
        del support.depth


class TestOpening:
    def test_a_domain_opens_the_variable(self) -> None:
        support = Support()
        support.temperature = 0.7
        before = vars(support).get("_slots")
        support.temperature = Float(0.0, 1.0)
        assert support.temperature == 0.7
        assert effective_domain(support, Support.temperature) == Float(0.0, 1.0)
        assert is_tunable(support, Support.temperature)
        assert effective_domain(Support(), Support.temperature) == Float(0.0, 2.0)
        assert not is_tunable(Support(), Support.temperature)
        assert vars(support)["_slots"] is not before

    def test_a_value_outside_the_new_domain_becomes_its_first(self) -> None:
        support = Support()
        support.temperature = 1.5
        support.temperature = Float(0.25, 1.0)
        assert support.temperature == 0.25
        with pytest.raises(
            StateError, match=r"Support\.temperature = 1\.5 \(float\) does not fit Float\(0\.25, 1\.0\)"
        ):
            support.temperature = 1.5

    def test_none_may_be_one_of_the_options(self) -> None:
        support = Support()
        support.temperature = Choice(None, 0.5)
        assert support.temperature is None
        support.temperature = 0.5
        support.temperature = None

    @pytest.mark.parametrize("domain", [Int(1, 9), Choice("a"), Float(0.0, 1.0), Prompt(), Choice(None, 1)])
    def test_a_domain_with_other_values_is_refused(self, domain: Any) -> None:
        support = Support()
        with pytest.raises(
            DefinitionError,
            match=r"^Support\.depth = .*: this has values that do not fit the declared domain Int\(1, 5\)\. Write a "
            r"domain inside it, or declare a wider one: depth = variable\(",
        ):
            support.depth = domain
        assert "_slots" not in vars(support)

    def test_any_models_are_opened_by_some(self) -> None:
        class Predict:
            model = variable(ModelChoice(), default=None, tunable=False)

        predict = Predict()
        predict.model = "a/b"
        assert predict.model == "a/b"
        predict.model = ModelChoice("c/d", "a/b")
        assert predict.model == "a/b"

    def test_freezing(self) -> None:
        support = Support()
        assert is_tunable(support, Support.depth)
        set_tunable(support, Support.depth, False)
        assert not is_tunable(support, Support.depth)
        assert is_tunable(Support(), Support.depth)

    def test_slots_are_replaced_and_never_mutated(self) -> None:
        support = Support()
        support.depth = Int(1, 2)
        twin = Support()
        twin.__dict__.update(support.__dict__)
        support.depth = Int(1, 3)
        set_tunable(support, Support.tone, False)
        assert effective_domain(twin, Support.depth) == Int(1, 2)
        assert is_tunable(twin, Support.tone)


class TestLinking:
    def test_a_linked_variable_reads_the_other(self) -> None:
        retrieve = Retrieve()
        retrieve.k = 7
        retrieve.k = Support.depth
        assert link_of(retrieve, Retrieve.k) is Support.depth
        assert retrieve.k == 3
        assert current_value(retrieve, Retrieve.k) == 3

    def test_the_object_says_where_it_finds_it(self) -> None:
        class Inner(Retrieve):
            parent: Any = None

            def _resolve_link(self, handle: Handle) -> Any:
                return getattr(self.parent, handle.name)

        inner, outer = Inner(), Support()
        inner.parent = outer
        inner.k = Support.depth
        outer.depth = 5
        assert inner.k == 5

    def test_many_readers_of_a_free_variable(self) -> None:
        one, other = Support(), Support()
        one.temperature = shared
        other.temperature = shared
        assert one.temperature == other.temperature == 0.5
        assert link_of(one, Support.temperature) is link_of(other, Support.temperature) is shared

    def test_a_derived_variable_can_be_linked(self) -> None:
        retrieve = Retrieve()

        class Plan:
            width = variable(Int(1, 9), default=2)
            total = derived(lambda width: 3 * width)

        retrieve.k = Plan.total
        assert retrieve.k == 6
        assert isinstance(link_of(retrieve, Retrieve.k), Derived)

    def test_a_value_or_a_domain_ends_the_link(self) -> None:
        retrieve = Retrieve()
        retrieve.k = Support.depth
        retrieve.k = 9
        assert (retrieve.k, link_of(retrieve, Retrieve.k)) == (9, None)
        retrieve.k = Support.depth
        retrieve.k = Int(5, 6)
        assert (retrieve.k, link_of(retrieve, Retrieve.k)) == (5, None)

    def test_a_default_that_does_not_fit_is_refused(self) -> None:
        support = Support()
        other = variable(Int(1, 100), default=50)
        with pytest.raises(
            DefinitionError,
            match=r"^Support\.depth = a free variable: the two cannot be one variable, because the default 50 \(int\) "
            r"of a free variable does not fit Int\(1, 5\)\.",
        ):
            support.depth = other

    def test_a_domain_that_does_not_fit_is_refused(self) -> None:
        support = Support()
        with pytest.raises(
            DefinitionError, match=r"because Int\(1, 100\) of Retrieve\.k has values that do not fit Int\(1, 5\)"
        ):
            support.depth = Retrieve.k

    def test_unset_variables_can_be_linked(self) -> None:
        support = Support()
        support.temperature = variable(Float(0.0, 1.0), default=None)
        assert support.temperature is None


class TestDeclaring:
    def test_a_default_outside_its_domain(self) -> None:
        with pytest.raises(
            DefinitionError,
            match=r"^variable\(Int\(1, 5\), default=9\): default = 9 \(int\) does not fit Int\(1, 5\): write a whole "
            r"number from 1 to 5\. Or start from its first value: variable\(Int\(1, 5\), default=1\)\.$",
        ):

            class Wrong:
                depth = variable(Int(1, 5), default=9)

    @pytest.mark.parametrize(
        ("domain", "right"),
        [(5, r"Write variable\(Int\(1, 10\), default=3\)"), (Bool, r"Write variable\(Bool\(\.\.\.\)\)")],
    )
    def test_what_is_no_domain(self, domain: Any, right: str) -> None:
        with pytest.raises(DefinitionError, match=f"is no domain. {right}"):
            variable(domain)

    def test_no_domain_at_all(self) -> None:
        with pytest.raises(DefinitionError, match=r"^variable\(\): there is no domain\. Write variable\(Int\(1, 10\)"):
            variable()  # type: ignore[call-overload]  # the test

    def test_a_domain_without_a_first_value_needs_a_default(self) -> None:
        with pytest.raises(DefinitionError, match=r"variable\(ModelChoice\(\)\): .* Write default=None beside it"):
            variable(ModelChoice())

    def test_a_doc_or_a_tunable_of_the_wrong_type(self) -> None:
        with pytest.raises(DefinitionError, match=r"doc=3\): doc has to be text, not 3 \(int\)"):
            variable(Int(1, 5), doc=3)  # type: ignore[call-overload]
        with pytest.raises(
            DefinitionError, match=r"tunable has to be True or False, not 'no' \(str\)\. Write tunable="
        ):
            variable(Int(1, 5), tunable="no")  # type: ignore[call-overload]


class TestIdentity:
    def test_copies_are_the_same_variable(self) -> None:
        assert copy.copy(Support.depth) is Support.depth
        assert copy.deepcopy({"depth": Support.depth})["depth"] is Support.depth
        assert copy.deepcopy(shared) is shared

    def test_pickles_find_the_class_again(self) -> None:
        assert pickle.loads(pickle.dumps(Support.depth)) is Support.depth
        assert pickle.loads(pickle.dumps(Slot(link=Support.depth))).link is Support.depth

    def test_readers_of_a_free_variable_still_share_it_after_pickling(self) -> None:
        one, other = pickle.loads(pickle.dumps([Slot(link=shared), Slot(link=shared)]))
        assert one.link is other.link
        assert one.link.domain == shared.domain

    def test_an_instance_travels_with_its_values(self) -> None:
        support = Support()
        support.depth = 4
        support.temperature = Float(0.0, 1.0)
        other = pickle.loads(pickle.dumps(support))
        assert (other.depth, other.temperature) == (4, 0.0)
        assert effective_domain(other, Support.temperature) == Float(0.0, 1.0)


class TestDerived:
    def test_it_follows_what_it_is_derived_from(self) -> None:
        support = Support()
        assert support.tokens == 300
        support.depth = 5
        assert support.tokens == 500
        assert repr(Support.tokens) == "<Derived Support.tokens from depth>"

    def test_it_cannot_be_set_or_deleted(self) -> None:
        support = Support()
        with pytest.raises(
            StateError,
            match=r"^Support\.tokens = 7 \(int\): it is derived from depth and cannot be set\. Set what it is derived",
        ):
            support.tokens = 7
        with pytest.raises(StateError, match="it is derived from depth and has nothing to delete"):
            del support.tokens

    def test_inputs_may_be_renamed_and_come_from_other_classes(self) -> None:
        class Plan:
            width = variable(Int(1, 9), default=2)
            area = derived(lambda w, depth, unit="m": f"{w * depth}{unit}", w=width, depth=Support.depth)
            half = derived(lambda full: full[:1], full="area")

        plan = Plan()
        assert plan.area == "6m"
        plan.width = 3
        assert (plan.area, plan.half) == ("9m", "9")
        assert Plan.half.default_value() == "6"

    def test_a_subclass_overrides_an_input(self) -> None:
        class Deep(Support):
            depth = variable(Int(1, 50), default=40)

        assert Deep().tokens == 4000

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: derived(3), r"derived\(3\): 3 \(int\) is no function\. Write derived\(lambda depth: \.\.\.\)"),
            (lambda: derived(lambda: 1), "the function reads no variable"),
            (lambda: derived(lambda *depths: 1), r"the parameter \*depths cannot be given by name"),
            (
                lambda: derived(lambda depth: 1, dept="depth"),
                r"the function has no parameter 'dept', but "
                "depth",
            ),
            (lambda: derived(lambda depth: 1, depth=3), r"3 \(int\) is neither the name of a variable nor a variable"),
            (lambda: derived(dict.fromkeys.__class__), "derived"),
        ],
    )
    def test_a_wrong_one_says_what_to_write(self, make: Any, message: str) -> None:
        with pytest.raises(DefinitionError, match=message):
            make()

    def test_it_is_declared_and_pickled_like_a_variable(self) -> None:
        assert declared(Support)["tokens"] is Support.tokens
        assert pickle.loads(pickle.dumps(Support.tokens)) is Support.tokens
