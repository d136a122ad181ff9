from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from msfser_cli.model.config import MsfSerConfig


def test_json_round_trip_is_exact() -> None:
    config = MsfSerConfig(
        acoustic_dim=1024, text_dim=384, streams=("acoustic", "gs"), dimensions=("arousal",), top_k=2, low=1.0, high=7.0,
        acoustic_encoder="whisper:whisper-base",
    )  # fmt: skip
    assert MsfSerConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("acoustic_dim", 0),
        ("acoustic_dim", 10**9),
        ("text_dim", -1),
        ("hidden_dim", 2.0),
        ("semantic_dim", "64"),
        ("expert_dim", True),
        ("experts", 65),
        ("top_k", 5),
        ("top_k", 0),
        ("fusion_dim", 0),
        ("fusion_dim", 10**6),
        ("dropout", 1.0),
        ("dropout", float("nan")),
        ("dropout", None),
        ("low", float("-inf")),
        ("high", 0.0),
        ("text_encoder", 3),
        ("acoustic_encoder", "x" * 1001),
        ("fusion", "sum"),
        ("streams", []),
        ("streams", ["gs", "acoustic"]),
        ("streams", "acoustic"),
        ("dimensions", ["valence", "valence"]),
        ("dimensions", ["mood"]),
    ],
)
def test_values_out_of_bounds_are_refused_by_name(name: str, value: Any) -> None:
    fields: dict[str, Any] = {**MsfSerConfig(acoustic_dim=4, text_dim=4).to_json(), name: value}
    with pytest.raises(ValueError, match=name):
        MsfSerConfig.from_json(fields)


def test_unknown_and_missing_fields_are_named() -> None:
    fields = MsfSerConfig(acoustic_dim=4, text_dim=4).to_json()
    with pytest.raises(ValueError, match="unknown field depth"):
        MsfSerConfig.from_json({**fields, "depth": 2})
    del fields["experts"]
    with pytest.raises(ValueError, match="missing field experts"):
        MsfSerConfig.from_json(fields)
    with pytest.raises(ValueError, match="upgrade msfser"):
        MsfSerConfig.from_json({**fields, "depth": 2})
    with pytest.raises(ValueError, match="object"):
        MsfSerConfig.from_json(["acoustic_dim"])  # type: ignore[arg-type]


def test_a_field_that_came_later_has_its_default_in_older_heads() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Later(MsfSerConfig):
        depth: int = 2

    old = MsfSerConfig(acoustic_dim=4, text_dim=4).to_json()
    assert Later.from_json(old) == Later(acoustic_dim=4, text_dim=4, depth=2)
    assert Later.from_json({**old, "depth": 3}).depth == 3  # type: ignore[attr-defined]
