"""The main job on the embedded model: US addresses in, city, state and ZIP code out.

A model of 135 million parameters reads addresses badly when it is only told to. This program leaves open how it is
asked (JSON that the decoder enforces, or a line for each field), with which examples, instruction and temperature; the
search finds out, on real data, under a hard budget, and the gain is measured on addresses it has never seen.

    python examples/demo.py                   # a few minutes on two cores; interrupt it and run it again to go on
    python examples/demo.py --address "12 Main St, Springfield, IL 62701"      # ask the saved program
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import dspex

HERE = Path(__file__).parent
DATA = HERE / "data" / "addresses.jsonl"
OUT = Path(".dspex") / "demo"
FIELDS = ("city", "state", "zip_code")


class AddressReader(dspex.Module):
    """Finds the city, the state and the ZIP code in an address as people write it."""

    temperature = dspex.variable(dspex.Float(0.0, 0.6), default=0.0, doc="of both ways of asking")

    def __init__(self) -> None:
        signature = dspex.Signature(
            f"address -> {', '.join(FIELDS)}", "Copy the city, the state and the ZIP code from the US address."
        )
        shared: dict[str, Any] = {
            "temperature": AddressReader.temperature,
            "demos": dspex.Demos(max_demos=8),
            "max_tokens": 48,
        }
        self.read = dspex.ModuleChoice(
            json=dspex.Predict(signature, adapter="json", **shared),
            lines=dspex.Predict(signature, adapter="lines", **shared),
        )

    def forward(self, address: str) -> dspex.Prediction:
        return self.read(address=address)


def right_fields(example: dspex.Example, prediction: dspex.Prediction) -> float:
    """The share of the three fields that are right, but for case and punctuation."""
    normalize = dspex.evaluate.normalize_text
    return sum(normalize(example[name]) == normalize(prediction[name]) for name in FIELDS) / len(FIELDS)


def search(lm: Any, seconds: float = 330.0, examples: int = 96) -> dspex.OptimizationResult:
    addresses = dspex.data.load_jsonl(DATA, inputs=["address"])[:examples]
    optimizer = dspex.JointSearch(
        trials=14,
        width=7,
        concurrency=4,
        proposers=[
            dspex.proposers.LabeledDemos(sizes=[4, 8], sets=3),
            dspex.proposers.GroundedInstructions(count=1, max_tokens=80),
        ],
    )
    return optimizer.optimize(
        AddressReader(),
        addresses,
        right_fields,
        lm=lm,
        budget=dspex.Budget(seconds=seconds, usd=0.01),
        storage=f"sqlite:///{OUT}/study.db",
        progress=True,
    )


def main(lm: Any = None, seconds: float = 330.0, examples: int = 96) -> dspex.OptimizationResult:
    OUT.mkdir(parents=True, exist_ok=True)
    # Three fields need no more; a model as small as this writes on where its prompt does not teach it to end.
    warnings.filterwarnings("ignore", ".* was cut off at max_tokens", RuntimeWarning)
    lm = lm or dspex.LM("local/smollm2-135m")
    lm("Hello!", max_tokens=1)  # loads it, so that loading is not on the search's clock
    result = search(lm, seconds, examples)
    print()
    print(result.report())
    path = OUT / "address_reader.json"
    result.program.save(path)
    print(f"\nsaved to {path}")
    return result


def answer(address: str, lm: Any = None) -> dspex.Prediction:
    """What a deployment does: load the values, ask."""
    program = AddressReader().load(OUT / "address_reader.json")
    with dspex.context(lm=lm or dspex.LM("local/smollm2-135m")):
        prediction: dspex.Prediction = program(address=address)
    for name in FIELDS:
        print(f"  {name:9} {prediction[name]}")
    return prediction


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", help="load the saved program and read this address")
    asked = parser.parse_args().address
    if asked is not None:
        answer(asked)
    else:
        main()
        example = "1600 Amphitheatre Parkway, Mountain View, CA 94043"
        print(f"\na fresh process loads it and reads: {example}")
        subprocess.run([sys.executable, __file__, "--address", example], check=True)
