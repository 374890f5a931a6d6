"""What goes into a call to a model and what must come out, with types."""

from __future__ import annotations

from dspex.signatures.fields import MISSING, Field, FieldSpec, InputField, OutputField
from dspex.signatures.parser import parse_type
from dspex.signatures.scope import Scope
from dspex.signatures.signature import Signature, SignatureMeta, ensure_signature, make_signature
from dspex.signatures.types import type_text

__all__ = [
    "MISSING",
    "Field",
    "FieldSpec",
    "InputField",
    "OutputField",
    "Scope",
    "Signature",
    "SignatureMeta",
    "ensure_signature",
    "make_signature",
    "parse_type",
    "type_text",
]
