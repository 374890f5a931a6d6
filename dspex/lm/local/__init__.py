"""The embedded model: llama.cpp in this process. No key, no server to start, no download at run time.

=========  ==========================================================================================
`model`    `LocalLM`: requests in, responses and typed errors out
`weights`  which file a name stands for, and what to install
`repack`   a packaged file in the form that is multiplied fastest
`engine`   a model file loaded, in lanes side by side, shared by the process
`heads`    what requests have in common (the system message and the demos) is read once
`answer`   what the engine says, piece by piece
=========  ==========================================================================================
"""

from __future__ import annotations

from dspex.lm.local.model import LocalLM

__all__ = ["LocalLM"]
