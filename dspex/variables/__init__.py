"""Declared variables, their domains, spaces and states: the root that everything else grows from."""

from __future__ import annotations

from dspex.variables.arrangements import Order, Subset
from dspex.variables.categorical import Bool, Choice, ModelChoice
from dspex.variables.codec import Json, canonical_json, content_id, decode, encode, is_registered, register
from dspex.variables.declarations import check_declarations, constraints_of, declared
from dspex.variables.derived import ConstraintDeclaration, Derived, constraint, derived
from dspex.variables.differences import SpaceDiff, StateDiff
from dspex.variables.domain import Domain
from dspex.variables.entries import Condition, Constraint, Entry
from dspex.variables.handle import Handle
from dspex.variables.numeric import Float, Int
from dspex.variables.open_ended import Demos, Prompt
from dspex.variables.options import Label
from dspex.variables.pool import Pool, PoolItem
from dspex.variables.space import Space
from dspex.variables.state import Changes, VariableState
from dspex.variables.variable import (
    Slot,
    Tunable,
    Variable,
    current_value,
    effective_domain,
    is_tunable,
    link_of,
    set_tunable,
    slot_of,
    variable,
)

__all__ = [
    "Bool",
    "Changes",
    "Choice",
    "Condition",
    "Constraint",
    "ConstraintDeclaration",
    "Demos",
    "Derived",
    "Domain",
    "Entry",
    "Float",
    "Handle",
    "Int",
    "Json",
    "Label",
    "ModelChoice",
    "Order",
    "Pool",
    "PoolItem",
    "Prompt",
    "Slot",
    "Space",
    "SpaceDiff",
    "StateDiff",
    "Subset",
    "Tunable",
    "Variable",
    "VariableState",
    "canonical_json",
    "check_declarations",
    "constraint",
    "constraints_of",
    "content_id",
    "current_value",
    "declared",
    "decode",
    "derived",
    "effective_domain",
    "encode",
    "is_registered",
    "is_tunable",
    "link_of",
    "register",
    "set_tunable",
    "slot_of",
    "variable",
]
