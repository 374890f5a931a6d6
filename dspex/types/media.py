"""Images, sound and files in prompts.

A file is read from the disk only by `from_path`, or when a `pathlib.Path` is given: text is never taken for a path,
since it may come from a model, a data set or a saved program.
"""

from __future__ import annotations

import base64
import io
import mimetypes
import re
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import model_validator

from dspex.errors import DataError
from dspex.types.part import Part

__all__ = ["Audio", "File", "Image"]

_DATA = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)(?:;[\w=.+-]+)*;base64,", re.IGNORECASE)
_WEB = re.compile(r"https?://\S+\Z", re.IGNORECASE)
_SIGNATURES = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF", "application/pdf"),
    (b"ID3", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
)
_FORMATS = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "x-flac": "flac", "mp4": "m4a"}


class _Media(Part):
    """Something at a web address, or inside a ``data:`` URL."""

    url: str

    def __init__(self, source: Any = None, /, **fields: Any) -> None:
        if source is not None:
            fields = {**self._fields_of(source), **fields}
        super().__init__(**fields)

    @classmethod
    def _fields_of(cls, source: Any) -> dict[str, Any]:
        if isinstance(source, Path):
            return _from_file(cls, source)
        if isinstance(source, bytes | bytearray):
            return {"url": _data_url(bytes(source), None, cls)}
        if isinstance(source, str):
            return {"url": source}
        if hasattr(source, "save") and hasattr(source, "mode"):  # of Pillow, whose classes need not be there
            buffer = io.BytesIO()
            source.save(buffer, format="PNG")
            return {"url": _data_url(buffer.getvalue(), "image/png", cls)}
        raise DataError(
            f"{cls.__name__} takes a pathlib.Path, a URL, bytes or a Pillow image, not {source!r:.80} "
            f"({type(source).__name__}).\n  right:  {cls.__name__}(pathlib.Path('...'))"
        )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (_WEB.match(self.url) or _DATA.match(self.url)):
            raise ValueError(
                f"{self.url!r:.60} is neither a web address (https://...) nor a data: URL; "
                f"a file is {type(self).__name__}.from_path('...')"
            )
        return self

    @classmethod
    def from_path(cls, path: str | Path) -> Self:
        """What the file at ``path`` holds, read now. Raises `DataError` when it cannot be read."""
        return cls(**_from_file(cls, Path(path)))

    @classmethod
    def from_url(cls, url: str) -> Self:
        """What is at a web address; the provider fetches it, never this process."""
        return cls(url=url)

    @classmethod
    def from_bytes(cls, data: bytes, media_type: str | None = None) -> Self:
        """``data``, of a type such as ``"image/png"``, which common formats tell by themselves."""
        return cls(url=_data_url(data, media_type, cls))

    @property
    def media_type(self) -> str | None:
        """Such as ``"image/png"``; None for a web address."""
        match = _DATA.match(self.url)
        return match["type"].lower() if match else None

    @property
    def data(self) -> bytes | None:
        """The bytes; None for a web address."""
        match = _DATA.match(self.url)
        return base64.b64decode(self.url[match.end() :]) if match else None

    @property
    def _base64(self) -> str:
        match = _DATA.match(self.url)
        return self.url[match.end() :] if match else ""

    @property
    def _summary(self) -> str:
        if self.media_type is None:
            return self.url
        return f"{self.media_type}, {len(self._base64) * 3 // 4 - self._base64[-2:].count('='):,} bytes"

    def text(self) -> str:
        """The address, or the type and size of what cannot be shown."""
        return self.url if self.media_type is None else f"({type(self).__name__.lower()}: {self._summary})"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._summary})"

    __str__ = __repr__


class Image(_Media):
    r"""An image: `from_path`, `from_url`, `from_bytes`; or ``Image(x)`` of a `Path`, URL, bytes or Pillow image.

    A model that sees (``vision``) is shown it; any other is told its address, or type and size. In JSON it is
    its URL. Raises `DataError` for a file that cannot be read, ``ValueError`` for text that is no URL.

    >>> Image.from_bytes(b"\x89PNG\r\n...")
    Image(image/png, 9 bytes)
    >>> Image("https://example.com/cat.png").part()
    {'type': 'image_url', 'image_url': {'url': 'https://example.com/cat.png'}}
    """

    capability: ClassVar[str] = "vision"

    def part(self) -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": self.url}}


class Audio(_Media):
    """Sound: `from_path` or `from_bytes`. A model that hears (``audio``) is played it.

    >>> Audio.from_bytes(b"ID3...").part()["input_audio"]["format"]
    'mp3'
    """

    capability: ClassVar[str] = "audio"

    def part(self) -> dict[str, Any]:
        if self.media_type is None:
            return {"type": "text", "text": self.text()}
        kind = self.media_type.partition("/")[2]
        return {"type": "input_audio", "input_audio": {"data": self._base64, "format": _FORMATS.get(kind, kind)}}


class File(_Media):
    """A file such as a PDF: `from_path` or `from_bytes`; ``filename`` is what the model is told.

    A model that reads files (``pdf``) is given it.

    >>> File(url="data:application/pdf;base64,JVBERi0=", filename="paper.pdf")
    File(application/pdf, 5 bytes, filename='paper.pdf')
    """

    filename: str | None = None

    capability: ClassVar[str] = "pdf"

    def part(self) -> dict[str, Any]:
        named = {"filename": self.filename} if self.filename else {}
        key = "file_id" if self.media_type is None else "file_data"
        return {"type": "file", "file": {key: self.url, **named}}

    def cited(self) -> dict[str, Any]:
        """A PDF as a document, which alone can be cited; `part` for any other file."""
        if self.media_type == "application/pdf":
            source = {"type": "base64", "media_type": self.media_type, "data": self._base64}
        elif self.media_type is None:
            source = {"type": "url", "url": self.url}
        else:
            return self.part()
        titled = {"title": self.filename} if self.filename else {}
        return {"type": "document", "source": source, **titled, "citations": {"enabled": True}}

    def text(self) -> str:
        """The name with the address, or with the type and size."""
        return " ".join(part for part in (self.filename, super().text()) if part)

    def __repr__(self) -> str:
        named = f", filename={self.filename!r}" if self.filename else ""
        return f"File({self._summary}{named})"

    __str__ = __repr__


def _from_file(cls: type[_Media], path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{cls.__name__}.from_path({str(path)!r}): the file cannot be read: {error}") from error
    fields = {"url": _data_url(data, mimetypes.guess_type(path.name)[0], cls)}
    return {**fields, "filename": path.name} if "filename" in cls.model_fields else fields


def _data_url(data: bytes, media_type: str | None, cls: type[_Media]) -> str:
    kind = media_type or _guessed(data)
    if kind is None:
        raise DataError(
            f"{cls.__name__}: the type of these {len(data):,} bytes is not known.\n"
            f"  right:  {cls.__name__}.from_bytes(data, 'image/png')"
        )
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _guessed(data: bytes) -> str | None:
    if data[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(data[8:12])
    return next((kind for start, kind in _SIGNATURES if data.startswith(start)), None)
