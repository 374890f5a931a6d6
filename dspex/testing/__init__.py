"""What users test their own parts with: conformance suites and hypothesis strategies, one module each.

``dspex.testing.storage``, ``dspex.testing.samplers``, ``dspex.testing.pruners`` and ``dspex.testing.adapters`` hold the
suites that every storage, sampler, pruner and adapter must pass; ``dspex.testing.strategies`` (needs hypothesis) makes
domains, spaces and states.
"""

from __future__ import annotations

__all__: list[str] = []
