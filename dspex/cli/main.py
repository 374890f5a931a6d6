"""``dspex COMMAND ...``: the commands, each in a file of its own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dspex.cli import cache
from dspex.errors import DspexError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``dspex`` with these arguments (by default the process's); gives the exit status.

    >>> from dspex.lm import Cache, MockLM
    >>> _ = MockLM(["Paris"], cache=Cache("answers.db"))("Capital of France?")
    >>> main(["cache", "stats", "--path", "answers.db"])  # doctest: +ELLIPSIS
    /.../answers.db: 1 answers, ... MB
    from ...
             1  mock/mock
    0
    """
    parser = argparse.ArgumentParser(prog="dspex", description="Optuna for LLM programs.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    cache.add_to(commands)
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except DspexError as error:
        sys.stderr.write(f"dspex: {error}\n")
        return 1
    except BrokenPipeError:  # the reader, `head` for example, has seen enough
        sys.stderr.close()
        return 0
