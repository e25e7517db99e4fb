"""Manifests: what each bundle of results says of itself, and the schema that it keeps to."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HASH = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": [
        "name",
        "date",
        "parameters",
        "seeds",
        "code",
        "data",
        "packages",
        "device",
        "wall_seconds",
        "note",
    ],
    "properties": {
        "name": {"type": "string", "pattern": r"^\w+$"},
        "date": {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
        "notebook": {  # null: a command made the bundle, and `made_by` tells which
            "type": ["object", "null"],
            "required": ["name", "code", "parameters"],
            "properties": {
                "name": {"type": "string"},
                "code": HASH,
                "parameters": {"type": "object"},
            },
        },
        "made_by": {"type": "string"},
        "parameters": {"type": "object"},
        "seeds": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
        "code": {
            "type": "object",
            "propertyNames": {"pattern": r"^sas_lib\.\w+$"},
            "additionalProperties": HASH,
        },
        "data": {"type": "object", "additionalProperties": HASH},
        "packages": {"type": "object", "additionalProperties": {"type": "string"}},
        "device": {
            "type": "object",
            "required": ["kind"],
            "properties": {
                "kind": {"type": "string"},
                "name": {"type": "string"},
                "cpus": {"type": "integer"},
                "machine": {"type": "string"},
            },
        },
        "wall_seconds": {"type": "number", "minimum": 0},
        "note": {"type": "string"},
    },
}


class ManifestError(ValueError):
    """A manifest that cannot be read, or is not as the schema has it."""


def results_folder() -> Path:
    """Where the bundles are: ``SAS_RESULTS``, or ``book/results`` beside the library."""
    given = os.environ.get("SAS_RESULTS")
    return Path(given) if given else Path(__file__).resolve().parents[1] / "book" / "results"


def bundle_names() -> list[str]:
    """The bundles that are there."""
    return sorted(path.parent.name for path in results_folder().glob("*/manifest.json"))


def read_manifest(name: str) -> dict[str, Any] | None:
    """The manifest of a bundle, checked; None where there is no such bundle.

    Raises:
        ManifestError: it is damaged.
    """
    path = results_folder() / name / "manifest.json"
    if not path.exists():
        return None
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ManifestError(f"{path} is no JSON: {error}") from error
    validate(manifest)
    return manifest


def validate(manifest: Mapping[str, Any]) -> None:
    """Compare a manifest with the schema.

    Raises:
        ManifestError: it is not as ``SCHEMA`` has it; the message says where and how.
    """
    import jsonschema

    errors = jsonschema.Draft202012Validator(SCHEMA).iter_errors(manifest)
    if error := jsonschema.exceptions.best_match(errors):
        raise ManifestError(f"manifest, at {error.json_path}: {error.message[:300]}")
