"""``dspex cache stats|clear|export``: the answers that were paid for."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dspex.errors import StorageError
from dspex.lm import Cache
from dspex.lm.cache import default_cache

__all__ = ["add_to"]

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def add_to(commands: Any) -> None:
    """Add ``cache`` and what it can do."""
    cache = commands.add_parser("cache", help="the cache of models' answers", description=__doc__)
    kinds = cache.add_subparsers(required=True, metavar="stats|clear|export")
    for name, run, says in (
        ("stats", _stats, "how many answers there are, of which models, and how old"),
        ("clear", _clear, "delete answers; they have to be paid for again"),
        ("export", _export, "write answers as JSON, one a line"),
    ):
        kind = kinds.add_parser(name, help=says, description=says)
        kind.add_argument("--path", help="the file; by default the one that cache=True means")
        kind.set_defaults(run=_opened(run))
        if name == "stats":
            kind.add_argument("--json", action="store_true", help="as JSON")
        else:
            kind.add_argument("--model", help="only this model's")
        if name == "clear":
            kind.add_argument("--older-than", metavar="AGE", type=_age, help="only those, for example 30d, 12h, 90m")
        if name == "export":
            kind.add_argument("--output", metavar="FILE", help="instead of the standard output")


def _age(text: str) -> float:
    unit = _UNITS.get(text[-1:])
    try:
        age = float(text[:-1]) * unit if unit is not None else float(text)
    except ValueError:
        age = -1.0
    if not 0 <= age < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no age; write for example 30d, 12h or 90m")
    return age


def _opened(run: Callable[[Cache, argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    def opened(options: argparse.Namespace) -> int:
        cache = Cache(options.path) if options.path else default_cache()
        if cache.path is not None and not cache.path.exists():
            raise StorageError(f"there is no cache at {cache.path}; name another with --path, or set DSPEX_CACHE_DIR")
        return run(cache, options)

    return opened


def _stats(cache: Cache, options: argparse.Namespace) -> int:
    stats = cache.stats()
    if options.json:
        sys.stdout.write(json.dumps(stats, indent=2) + "\n")
        return 0
    lines = [f"{stats['path']}: {stats['entries']:,} answers, {stats['bytes'] / 1e6:,.1f} MB"]
    if stats["entries"]:
        lines.append(f"from {_date(stats['oldest'])} to {_date(stats['newest'])}")
        lines += [f"{count:>10,}  {model}" for model, count in stats["models"].items()]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _clear(cache: Cache, options: argparse.Namespace) -> int:
    count = cache.clear(older_than=options.older_than, model=options.model)
    sys.stdout.write(f"{count:,} answers deleted from {cache.path}\n")
    return 0


def _export(cache: Cache, options: argparse.Namespace) -> int:
    if options.output and cache.path is not None and Path(options.output).resolve() == cache.path.resolve():
        raise StorageError(f"{options.output} is the cache itself, which would be lost; name another --output")
    try:
        output = open(options.output, "w", encoding="utf-8") if options.output else sys.stdout  # noqa: SIM115 - below
    except OSError as error:
        raise StorageError(f"{options.output} cannot be written: {error.strerror}; name another --output") from error
    try:
        for row in cache.rows():
            if options.model in (None, row["model"]):
                line = json.dumps(row, ensure_ascii=False)
                # Half a surrogate pair is no UTF-8; escaped it still is JSON.
                output.write(line.encode("utf-8", "backslashreplace").decode() + "\n")
    finally:
        if output is not sys.stdout:
            output.close()
    return 0


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
