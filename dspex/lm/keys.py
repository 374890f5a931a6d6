"""What an answer is cached under."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from dspex.lm.secrets import public_params
from dspex.lm.types import LMRequest, canonical, digest, framed, framed_one

__all__ = ["Keys"]

_MEMO = 1024


class Keys:
    """Cache keys for the requests to one model.

    ``identity`` is what tells its answers apart from another model's, ``params`` its own parameters. A key is
    the SHA-256 of these and of every word of the request; secrets are not part of it.

    >>> keys = Keys({"model": "mock/mock"}, {"temperature": 0.0})
    >>> one, other = LMRequest.of("hi"), LMRequest.of("hi", rollout_id=1)
    >>> keys.key(one) == keys.key(LMRequest.of("hi", temperature=0.0)), keys.key(one) == keys.key(other)
    (True, False)
    """

    __slots__ = ("_memo", "_model", "_params", "_schemas", "identity")

    identity: str

    def __init__(self, model: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        self._model = model
        self._params = params
        self._memo: dict[Any, str] = {}
        self._schemas: dict[int, tuple[Any, str]] = {}
        self.identity = self._merged({})

    def key(self, request: LMRequest) -> str:
        """64 hexadecimal digits."""
        return sha256(self._hashed(request).encode("utf-8", "surrogatepass")).hexdigest()

    def explain(self, request: LMRequest) -> dict[str, Any]:
        """What the key is made of, as plain data; ``hashed`` is the text that the key is the SHA-256 of."""
        return {
            "key": self.key(request),
            "model": dict(self._model),
            "params": dict(sorted(self._shown(request.params).items())),
            "messages": request.messages,
            "schema": request.schema,
            "grammar": request.grammar,
            "rollout_id": request.rollout_id,
            "hashed": self._hashed(request),
        }

    def _hashed(self, request: LMRequest) -> str:
        params, head, tail = request.params, request.head, request.tail
        identity = self._with(params) if params else self.identity
        extras = str(request.rollout_id)
        if request.schema is not None:
            extras += f" schema {self._schema(request.schema)}"
        if request.grammar is not None:
            extras += f" grammar {digest(request.grammar)}"
        asked = framed_one(tail[0]) if len(tail) == 1 else framed(tail)
        return f"{identity}\n{head._digest or head.digest}\n{extras}\n{asked}"

    def _with(self, params: Mapping[str, Any]) -> str:
        # Types too: 1, 1.0 and True are equal and do not mean the same.
        memo = tuple((name, value, type(value)) for name, value in params.items())
        try:
            known = self._memo.get(memo)
        except TypeError:
            return self._merged(params)
        if known is None:
            known = self._merged(params)
            if len(self._memo) >= _MEMO:
                self._memo.clear()
            self._memo[memo] = known
        return known

    def _merged(self, params: Mapping[str, Any]) -> str:
        return canonical({**self._model, "params": self._shown(params)})

    def _shown(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        merged = {**self._params, **params}
        if not merged.get("rollout_id"):
            merged.pop("rollout_id", None)  # the one that calls are of which name none
        return public_params({name: value for name, value in merged.items() if value is not None})

    def _schema(self, schema: dict[str, Any]) -> str:
        # Adapters hand in one object per signature; while it is kept here, its id is its own.
        known = self._schemas.get(id(schema))
        if known is None:
            if len(self._schemas) >= _MEMO:
                self._schemas.clear()
            known = self._schemas[id(schema)] = (schema, digest(canonical(schema)))
        return known[1]
