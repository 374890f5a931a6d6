"""Ctrl-C at a chosen line."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import dspex

__all__ = ["interrupted"]

PACKAGE = Path(dspex.__file__).parent


def interrupted(line: int, run: Callable[[], Any], rooms: tuple[str, ...]) -> bool:
    """Calls ``run`` and interrupts it before this line, of those that it passes in ``rooms``; whether it had as many.

    What ``run`` makes of it is its own affair, but for a `KeyboardInterrupt` that it raises.
    """
    folders = tuple(str(PACKAGE / room) for room in rooms)
    left = line

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(folders):
            return None
        # A line with "with" is passed again when it is left, where no signal comes between its block and its end, nor
        # does one at "try", which does nothing.
        if event == "line" and not _is_safe(frame.f_code.co_filename, frame.f_lineno):
            left -= 1
            if left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return left <= 0


def _is_safe(file: str, line: int) -> bool:
    return linecache.getline(file, line).lstrip().startswith(("with ", "async with ", "try:"))
