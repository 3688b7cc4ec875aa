"""The profile as a JSON Schema, for editors that complete and check TOML."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from gpunode.profile.model import HostProfile

SCHEMA_ID = "urn:gpunode:profile"


class _TomlSchema(GenerateJsonSchema):
    """JSON Schema for a language without null: an optional key is left out, never set to nothing."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        described = super().default_schema(schema)
        if described.get("default", ...) is None:
            del described["default"]
        return described

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 (the base class asks per schema)
        return False

    def generate(self, schema: CoreSchema, mode: JsonSchemaMode = "validation") -> JsonSchemaValue:
        described = super().generate(schema, mode)
        return {"$schema": self.schema_dialect, "$id": SCHEMA_ID, **described, "title": "gpunode host profile"}


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a profile. The rules between keys are not in it."""
    return HostProfile.model_json_schema(schema_generator=_TomlSchema)
