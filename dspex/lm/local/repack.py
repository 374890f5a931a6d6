"""Weights in the form that the engine multiplies fastest.

llama.cpp multiplies many tokens with Q8_0 weights in blocks, but with Q4_1 weights one token at a time: on two cores
that makes prompts and parallel answers slower by more than half. So the Q4_1 file that a package ships is written
again as Q8_0, once, next to the response cache. That loses next to nothing (half a 127th of the largest weight of each
32), and what the model answers does not depend on the machine it was done on.

The file format is GGUF 3: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["repacked"]

_MAGIC = 0x46554747  # "GGUF"
_STRING, _ARRAY = 8, 9
_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of each type of value
_ALIGNMENT = 32
_BLOCK = 32  # weights
_Q4_1, _Q8_0 = 3, 8


def repacked(path: Path, name: str) -> Path:
    """The faster form of a packaged file, made now unless it is there; the file itself where that cannot be.

    ``name`` says which package and version the file is from.
    """
    folder = Path(os.environ.get("DSPEX_CACHE_DIR") or "~/.cache/dspex").expanduser() / "weights"
    target = folder / f"{name.replace('==', '-')}.Q8_0.gguf"
    if target.is_file():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Under a name of its own until it is whole: other processes may be at the same.
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
            try:
                for piece in _rewritten(path.read_bytes()):
                    file.write(piece)
                file.close()
                Path(file.name).replace(target)
            except BaseException:
                with suppress(OSError):
                    Path(file.name).unlink()
                raise
    except (OSError, _NotForUs):
        return path
    return target


class _NotForUs(Exception):  # noqa: N818 - no error: the file stays as it is
    """A file of another version or with other kinds of weights."""


class _Tensor(NamedTuple):
    name: bytes
    shape: tuple[int, ...]
    kind: int
    offset: int


def _rewritten(content: bytes) -> Iterator[bytes]:
    """The file with its Q4_1 tensors as Q8_0, in pieces."""
    reader = _Reader(content)
    if reader.number("<I") != _MAGIC or reader.number("<I") != 3:
        raise _NotForUs
    tensors, values = reader.number("<Q"), reader.number("<Q")
    start = reader.place
    for _ in range(values):
        key = reader.string()
        reader.skip(reader.number("<I"))
        if key == b"general.alignment":
            raise _NotForUs
    end = reader.place
    infos = [reader.tensor() for _ in range(tensors)]
    data = reader.place + -reader.place % _ALIGNMENT
    ends = [*sorted(info.offset for info in infos), len(content) - data]
    if not any(info.kind == _Q4_1 for info in infos):
        raise _NotForUs

    sizes = [ends[ends.index(info.offset) + 1] - info.offset for info in infos]
    kept = [
        size if info.kind != _Q4_1 else _weights(info) // _BLOCK * 34 for info, size in zip(infos, sizes, strict=True)
    ]
    header = bytearray(struct.pack("<IIQQ", _MAGIC, 3, tensors, values) + content[start:end])
    offset = 0
    for info, size in zip(infos, kept, strict=True):
        header += struct.pack("<Q", len(info.name)) + info.name
        header += struct.pack(f"<I{len(info.shape)}Q", len(info.shape), *info.shape)
        header += struct.pack("<IQ", _Q8_0 if info.kind == _Q4_1 else info.kind, offset)
        offset += size + -size % _ALIGNMENT
    yield bytes(header) + bytes(-len(header) % _ALIGNMENT)
    for info, size in zip(infos, sizes, strict=True):
        piece = content[data + info.offset : data + info.offset + size]
        if info.kind == _Q4_1:
            piece = _eight_bits(piece[: _weights(info) // _BLOCK * 20])
        yield piece + bytes(-len(piece) % _ALIGNMENT)


def _weights(info: _Tensor) -> int:
    count = 1
    for length in info.shape:
        count *= length
    return count


def _eight_bits(blocks: bytes) -> bytes:
    """Blocks of Q4_1 (scale, minimum, 32 times 4 bits) as blocks of Q8_0 (scale, 32 times 8 bits)."""
    import numpy as np

    packed: Any = np.frombuffer(blocks, dtype=[("scale", "<f2"), ("least", "<f2"), ("pairs", "u1", 16)])
    steps = np.concatenate([packed["pairs"] & 15, packed["pairs"] >> 4], axis=1).astype(np.float32)
    weights = steps * packed["scale"].astype(np.float32)[:, None] + packed["least"].astype(np.float32)[:, None]
    scale = np.abs(weights).max(axis=1) / 127
    wide = np.empty(len(weights), dtype=[("scale", "<f2"), ("steps", "i1", _BLOCK)])
    wide["scale"] = scale
    wide["steps"] = np.rint(weights / np.where(scale > 0, scale, 1)[:, None])
    return wide.tobytes()


class _Reader:
    """What stands one after the other in the head of a GGUF file."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.place = 0

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self.content, self.place)
        self.place += struct.calcsize(form)
        return int(value)

    def string(self) -> bytes:
        length = self.number("<Q")
        self.place += length
        return self.content[self.place - length : self.place]

    def skip(self, kind: int) -> None:
        """Go past a value of this type."""
        if kind == _STRING:
            self.string()
        elif kind == _ARRAY:
            inner, count = self.number("<I"), self.number("<Q")
            if inner in _SCALARS:
                self.place += _SCALARS[inner] * count
            else:
                for _ in range(count):
                    self.skip(inner)
        else:
            self.place += _SCALARS[kind]

    def tensor(self) -> _Tensor:
        name = self.string()
        shape = tuple(self.number("<Q") for _ in range(self.number("<I")))
        return _Tensor(name, shape, self.number("<I"), self.number("<Q"))
