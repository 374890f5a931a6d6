"""The command ``dspex``: what a person does from a shell."""

from __future__ import annotations

from dspex.cli.main import main

__all__ = ["main"]
