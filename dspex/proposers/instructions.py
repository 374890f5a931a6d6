"""Instructions written by a model that sees the task: its fields, some examples, and what has been tried."""

from __future__ import annotations

import functools
from typing import Any

from dspex.data import Example
from dspex.errors import LMContentFilterError, LMContextWindowError, LMError, ParseError
from dspex.modules import Predict
from dspex.proposers.base import Proposer, Workbench, predictor_variables
from dspex.proposers.checks import check_number, check_whole
from dspex.signatures import Signature
from dspex.variables import Prompt, content_id

__all__ = ["GroundedInstructions"]

TIPS = (
    "Say in one sentence what the output must be.",
    "Name each output field and say exactly what belongs in it.",
    "Say what a careful expert would check before answering.",
    "Warn of the mistake that is most easily made.",
    "Be as short as possible.",
    "Describe the steps from the inputs to the outputs.",
)


class GroundedInstructions(Proposer):
    """Candidates for every searched instruction, one per tip, from a model grounded in the data.

    Args:
        count: candidates per instruction and round.
        lm: the model that writes; ``None`` is the model of the search.
        temperature: of the writing.
        max_tokens: the longest answer of the writer.

    Source: Opsahl-Ong et al. 2024, "Optimizing Instructions and Demonstrations for Multi-Stage Language Model
    Programs", section 3.1 (grounding and tips).

    >>> from dspex.optimizers import JointSearch
    >>> JointSearch(proposers=[GroundedInstructions(count=8, temperature=1.0)]).proposers[0].count
    8
    """

    def __init__(self, *, count: int = 4, lm: Any = None, temperature: float = 0.9, max_tokens: int = 300) -> None:
        check_whole("count", count, 1)
        check_number("temperature", temperature, low=0.0, high=2.0, example=0.9)
        check_whole("max_tokens", max_tokens, 1)
        self.count = count
        self.max_tokens = max_tokens
        self.lm = lm
        self.temperature = temperature

    def to_json(self) -> dict[str, Any]:
        """The configuration; the model by its name."""
        return {**super().to_json(), "lm": None if self.lm is None else self.lm.model}

    def propose(self, bench: Workbench, *, round: int = 0) -> None:
        """Ask for ``count`` instructions per variable; an unreadable proposal is left out, at no harm."""
        writer = Predict(
            Signature(
                "fields, examples, current_instruction, tip -> instruction",
                "Write a better instruction for a language model that fills the output fields from the input "
                "fields. Write the instruction only.",
            ),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            lm=self.lm,
        )
        for path, _, predictor in predictor_variables(bench, Prompt):
            pool = bench.pool(path)
            current = bench.best_state[path]
            rng = bench.random("instructions", path, round)
            first = rng.randrange(len(TIPS))
            tips = [TIPS[(first + number) % len(TIPS)] for number in range(self.count)]
            for number, tip in enumerate(tips):
                shown = rng.sample(list(bench.trainset), min(3, len(bench.trainset)))
                source = f"instructions:{content_id(self.to_json())}:{path}:{round}:{number}"
                ask = functools.partial(
                    self._write,
                    bench,
                    writer,
                    fields=_fields(predictor.signature),
                    examples="\n\n".join(_spell(example) for example in shown),
                    current_instruction=current,
                    tip=tip,
                )
                try:
                    written = bench.remember(source, ask)
                except LMError as error:
                    if not error.retryable:
                        raise
                    continue  # the model's trouble, not the search's
                domain: Any = bench.space[path].domain
                if written and domain.contains(written):
                    parent = next((item.id for item in pool if item.value == current), None)
                    pool.add(written, parents=(parent,) if parent else (), source=source, note=tip)

    def _write(self, bench: Workbench, writer: Predict, **inputs: Any) -> str:
        try:
            return str(bench.call(writer, **inputs).instruction).strip()
        except (ParseError, LMContextWindowError, LMContentFilterError):
            return ""


def _fields(signature: type[Signature]) -> str:
    lines = []
    for heading, fields in (("Inputs", signature.input_fields), ("Outputs", signature.output_fields)):
        lines.append(f"{heading}:")
        lines += [
            f"- {name} ({field.type_name}){': ' + field.desc if field.desc else ''}" for name, field in fields.items()
        ]
    return "\n".join(lines)


def _spell(example: Example) -> str:
    return "\n".join(f"{name}: {value}" for name, value in example.to_dict().items())
