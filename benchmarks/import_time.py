"""How long `import dspex` takes, against `import pydantic` and `import dspy`; each in a fresh interpreter.

Both the wall time and the processor time of the import statement alone are measured, without the start of the
interpreter. `import dspex` loads its rooms when they are first used, so the time until a program can be
written (`dspex.Predict`, `dspex.Module`, ...) is shown too, beside what it needs of pydantic.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from _measure import REPETITIONS, table, verdict

TARGET = 1.3
IMPORTS = {
    "dspex": "import dspex",
    "pydantic": "import pydantic",
    "dspy": "import dspy",
    "dspex, ready for a program": "import dspex; dspex.Module, dspex.Predict, dspex.variable, dspex.MockLM",
    "pydantic, with what dspex uses": "from pydantic import BaseModel, TypeAdapter",
}
MEASURED = """
import time
wall, processor = time.perf_counter(), time.process_time()
{statement}
print(time.perf_counter() - wall, time.process_time() - processor)
"""


def measure(statement: str) -> tuple[float, float]:
    """Milliseconds of wall and processor time."""
    code = MEASURED.format(statement=statement)
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    wall, processor = map(float, output.split())
    return wall * 1e3, processor * 1e3


def main() -> int:
    for statement in IMPORTS.values():
        measure(statement)  # the first one compiles
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in IMPORTS}
    for _ in range(REPETITIONS):
        for name, statement in IMPORTS.items():
            samples[name].append(measure(statement))
    wall = {name: statistics.median(pair[0] for pair in pairs) for name, pairs in samples.items()}
    processor = {name: statistics.median(pair[1] for pair in pairs) for name, pairs in samples.items()}
    table(
        f"Import time in ms, medians of {REPETITIONS} fresh interpreters",
        ["import", "wall", "processor", "x pydantic"],
        [
            [name, f"{wall[name]:.1f}", f"{processor[name]:.1f}", f"{processor[name] / processor['pydantic']:.2f}"]
            for name in IMPORTS
        ],
    )
    return verdict(
        {f"import dspex takes at most {TARGET} x import pydantic": processor["dspex"] <= TARGET * processor["pydantic"]}
    )


if __name__ == "__main__":
    sys.exit(main())
