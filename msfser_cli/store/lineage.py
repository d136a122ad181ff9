"""The lineage of a table: its stage, settings, models and corpus. Each file of a table stores it in its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from msfser_cli.schemas import SCHEMA_VERSION

METADATA_KEY = b"msfser"


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The origin of a table, stored in its file.

    fingerprint: a hash that is equal for equal settings and models. settings: stage -> its settings, for all stages so far.
    models: id -> revision or sha256 of the model. extra: other facts that a reader needs, such as the scale of the scores.
    """

    stage: str
    tool_version: str
    fingerprint: str
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    corpus_root: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


def metadata(lineage: Lineage) -> dict[bytes, bytes]:
    """The metadata of a file: its lineage as JSON under the key `msfser`."""
    return {METADATA_KEY: json.dumps(asdict(lineage), ensure_ascii=False, sort_keys=True).encode()}


def from_values(values: Mapping[str, Any]) -> Lineage:
    """The lineage with these fields. Older tables lack newer fields, which get their defaults."""
    return Lineage(**{f.name: values[f.name] for f in fields(Lineage) if f.name in values})


def differences(old: Lineage, new: Lineage, old_columns: Sequence[str], new_columns: Sequence[str]) -> list[str]:
    """The differences between two works, a line each; empty if they are the same."""
    before, after = _flat(old), _flat(new)
    lines = [
        f"{name}: {before.get(name, 'not set')}, now {after.get(name, 'not set')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    if old.fingerprint == new.fingerprint:
        lines = []
    elif old.schema_version != new.schema_version:
        lines.append(f"schema {old.schema_version}, now {new.schema_version}: another version of msfser made it")
    elif not lines:
        lines = [f"fingerprint: {old.fingerprint}, now {new.fingerprint}"]
    for word, some, others in (("with", old_columns, new_columns), ("without", new_columns, old_columns)):
        if differing := [name for name in some if name not in others]:
            lines.append(f"made {word} the columns {', '.join(differing)}")
    return lines


def _flat(lineage: Lineage) -> dict[str, Any]:
    settings = {f"{stage}.{name}": value for stage, values in lineage.settings.items() for name, value in values.items()}
    return settings | {f"model {name}": version for name, version in lineage.models.items()}
