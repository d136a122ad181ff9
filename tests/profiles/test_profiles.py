from __future__ import annotations

import pytest

from msfser_cli.errors import UsageError
from msfser_cli.model_store.registry import registry
from msfser_cli.profiles import PROFILES, profile
from msfser_cli.schemas import STAGE_NAMES
from msfser_cli.settings import build


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_sets_known_settings_and_names_known_models(name: str) -> None:
    built = {stage: build(stage, values) for stage, values in profile(name).items()}
    assert tuple(built) == STAGE_NAMES
    assert {built["transcribe"].model, built["embed"].acoustic_model, built["embed"].text_model} <= set(registry())  # type: ignore[union-attr]


def test_the_defaults_of_the_settings_are_minis() -> None:
    assert all(build(stage, values) == build(stage, {}) for stage, values in profile("mini").items())


def test_an_unknown_profile_or_setting_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="mini, paper"):
        profile("maxi")
    with pytest.raises(UsageError, match="loudness"):
        build("emphasize", {"loudness": 3})
