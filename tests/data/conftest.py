from __future__ import annotations

from hypothesis import settings

# The machine that runs this may be busy: time limits per example would fail at random.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
