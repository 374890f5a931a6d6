"""The JSON schema of what is asked for."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

__all__ = ["OutputSchema"]


class OutputSchema(GenerateJsonSchema):
    """As pydantic has it, but a NamedTuple is an object with its fields, as the prompt shows it."""

    def named_tuple_schema(self, schema: Any) -> dict[str, Any]:
        return self._object([(field, field.get("validation_alias")) for field in schema["fields"]])

    def call_schema(self, schema: Any) -> dict[str, Any]:
        # How pydantic before 2.14 makes a NamedTuple.
        arguments = schema["arguments_schema"]
        if arguments["type"] != "arguments":
            return super().call_schema(schema)
        return self._object([(one, one.get("alias")) for one in arguments["arguments_schema"]])

    def _object(self, fields: list[tuple[Any, Any]]) -> dict[str, Any]:
        keys = [alias if isinstance(alias, str) else field["name"] for field, alias in fields]
        required = [key for key, (field, _) in zip(keys, fields, strict=True) if field["schema"]["type"] != "default"]
        return {
            "type": "object",
            "properties": {
                key: self.generate_inner(field["schema"]) for key, (field, _) in zip(keys, fields, strict=True)
            },
            **({"required": required} if required else {}),
            "additionalProperties": False,
        }
