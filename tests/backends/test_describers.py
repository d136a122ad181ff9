"""What every describer must do, whoever wrote it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from msfser_cli import schemas
from msfser_cli.backends.registry import backend, names
from msfser_cli.settings import DescribeSettings
from msfser_cli.store.audio import Audio

Load = Callable[[str], Any]
pytestmark = [pytest.mark.parametrize("name", names("describers")), pytest.mark.model]


@pytest.fixture
def load(request: pytest.FixtureRequest) -> Load:
    """`load(name)` loads a describer as the chain does, on the model or the server that it asks, if any."""

    def loaded(name: str) -> Any:
        asked = {"openai": lambda: request.getfixturevalue("chat_server").url,
                 "transformers": lambda: request.getfixturevalue("audio_language_model")}  # fmt: skip
        if name == "kimi-audio" and importlib.util.find_spec("kimia_infer") is None:
            pytest.skip("Kimi-Audio's package is not installed; test_kimi_audio.py has a stand-in")
        target = f":{asked[name]()}" if name in asked else ""
        settings = DescribeSettings(describer=f"{name}{target}")
        module = backend("describers", name)
        return module.load(settings, module.needs(settings))

    return loaded


def test_says_what_it_is_and_what_it_needs(name: str) -> None:
    module = backend("describers", name)
    assert module.__doc__
    assert module.__doc__.splitlines()[0].endswith(".")
    assert isinstance(module.REQUIRES, tuple)


def test_gives_each_utterance_the_columns_of_the_schema(name: str, real_utterance: Any, load: Load) -> None:
    audio, row = real_utterance
    rows = [row, {**row, "words": []}, {**row, "start": 0.0, "end": 0.02, "words": []}]
    before = deepcopy(rows)
    [out] = load(name).describe([audio], [rows])
    assert rows == before
    assert len(out) == len(rows)
    for result in out:
        assert set(result) == {column.name for column in schemas.DESCRIBE}
        for column in schemas.DESCRIBE:
            value = result[column.name]
            assert value is None or isinstance(value, str if column.type == "string" else float)
            assert value is None or column.type == "string" or np.isfinite(value)
    assert out[0]["description"]


def test_the_same_recording_gives_the_same_words(name: str, real_utterance: Any, load: Load) -> None:
    audio, row = real_utterance
    assert load(name).describe([audio], [[row]]) == load(name).describe([Audio(audio.samples[:].copy())], [[row]])


def test_no_utterances(name: str, load: Load) -> None:
    assert load(name).describe([Audio(np.zeros(16_000, np.float32))], [[]]) == [[]]
    assert load(name).describe([], []) == []


def test_a_recording_gets_the_same_with_others_as_alone(name: str, real_utterance: Any, load: Load) -> None:
    audio, row = real_utterance
    half = {**row, "end": row["end"] / 2, "words": row["words"][: len(row["words"]) // 2]}
    louder = Audio(2 * audio.samples[:])
    audios, rows = [audio, louder, audio], [[row, half], [half], []]
    describer = load(name)
    alone = [describer.describe([one], [of_one])[0] for one, of_one in zip(audios, rows, strict=True)]
    assert describer.describe(audios, rows) == alone
