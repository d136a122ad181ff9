"""The adapter to Kimi-Audio's own package, on a stand-in for the package that takes what the real one takes and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants

from kit.speech_models import voice
from msfser_cli.backends import asking
from msfser_cli.backends.asking import Question
from msfser_cli.backends.describers import kimi_audio
from msfser_cli.errors import ModelError
from msfser_cli.model_store.models import locate
from msfser_cli.settings import DescribeSettings

STAND_IN = '''
import sys
import wave
from pathlib import Path

import torch
from huggingface_hub import constants

Path("kimia_audio.log").write_text("begun")
HEARD = []

class KimiAudio:
    def __init__(self, model_path, load_detokenizer=True):
        assert (Path(model_path) / "config.json").exists() and load_detokenizer is False
        assert constants.HF_HUB_OFFLINE
        print("Loading", file=sys.stderr)
        if (Path(model_path) / "broken").exists():
            raise RuntimeError("no NVIDIA driver")

    def generate(self, chats, output_type="text", audio_temperature=0.0, audio_top_k=5, text_temperature=0.0, text_top_k=5,
                 audio_repetition_penalty=1.0, audio_repetition_window_size=64, text_repetition_penalty=1.0,
                 text_repetition_window_size=16, max_new_tokens=-1):
        text, audio = chats
        assert {**text, "content": 0} == {"role": "user", "message_type": "text", "content": 0}
        assert {**audio, "content": 0} == {"role": "user", "message_type": "audio", "content": 0}
        assert output_type == "text" and text_temperature == 0 and text_repetition_penalty == 1 and max_new_tokens == 160
        with wave.open(audio["content"]) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
            HEARD.append((audio["content"], file.readframes(file.getnframes())))
        print("Generating tokens: 100%", file=sys.stderr)
        if text["content"] == "crash":
            raise ValueError("crash")
        if text["content"] == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return None, "It sounds calm. " + text["content"]
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The stand-in, a folder for the model, and the second model in the hub's cache; returns the model's folder."""
    api = tmp_path / "site" / "kimia_infer" / "api"
    api.mkdir(parents=True)
    for folder in (api, api.parent):
        (folder / "__init__.py").touch()
    (api / "kimia.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    cached = tmp_path / "hub" / "models--THUDM--glm-4-voice-tokenizer"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("a" * 40)
    (cached / "snapshots" / ("a" * 40)).mkdir(parents=True)
    (cached / "snapshots" / ("a" * 40) / "model.safetensors").touch()  # without weights, it would count as cut short
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    monkeypatch.chdir(tmp_path)
    locate.cache_clear()
    (tmp_path / "kimi").mkdir()
    (tmp_path / "kimi" / "config.json").write_text("{}")
    yield tmp_path / "kimi"
    locate.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "kimia_infer"]:
        del sys.modules[name]


def loaded(folder: Path) -> Any:
    settings = DescribeSettings(describer=f"kimi-audio:{folder}")
    return kimi_audio.load(settings, kimi_audio.needs(settings)).model


def test_it_is_asked_about_each_utterance_by_a_file_that_goes_again(package: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = loaded(package)
    clips = [voice(1.0), np.zeros(0, np.float32), voice(61.0), 3 * np.ones(5, np.float32)]
    answers = model.answer([Question(clip, f"How {i}?") for i, clip in enumerate(clips)])
    assert answers == ["It sounds calm. How 0?", "It sounds calm. How 1?", None, "It sounds calm. How 3?"]
    heard = sys.modules["kimia_infer.api.kimia"].HEARD
    for clip, (name, frames) in zip([clips[0], clips[3], clips[1]], heard, strict=True):
        samples = np.frombuffer(frames, "<i2") / 32768
        np.testing.assert_allclose(samples, np.clip(clip, -1, 1), atol=1 / 32768)
        assert not Path(name).exists()
    with pytest.raises(ValueError, match="crash"):
        model.answer([Question(clips[0], "crash")])
    assert not Path(heard[-1][0]).exists()
    with pytest.raises(MemoryError):
        model.answer([Question(clips[0], "memory")])
    assert capfd.readouterr() == ("", "")
    assert Path.cwd() == package.parent
    assert not (package.parent / "kimia_audio.log").exists()


def test_it_is_known_by_both_models_and_the_prompt(package: Path) -> None:
    found = kimi_audio.needs(DescribeSettings(describer=f"kimi-audio:{package}"))
    tokens = f"{kimi_audio.SPEECH_TOKENS}@{'a' * 40}"
    assert found.identity == f"{locate(str(package)).identity}, {tokens}, {asking.PROMPT}"


def test_what_is_missing_is_said_before_the_run_begins(package: Path) -> None:
    with pytest.raises(ModelError, match="run: hf download moonshotai/Kimi-Audio-7B-Instruct"):
        kimi_audio.needs(DescribeSettings(describer="kimi-audio"))
    tokens = package.parent / "hub" / "models--THUDM--glm-4-voice-tokenizer"
    tokens.rename(tokens.with_name("elsewhere"))
    locate.cache_clear()
    with pytest.raises(ModelError, match="hf download THUDM/glm-4-voice-tokenizer"):
        kimi_audio.needs(DescribeSettings(describer=f"kimi-audio:{package}"))


def test_without_the_package_it_says_where_that_is() -> None:
    if "kimia_infer" in sys.modules or any((Path(p) / "kimia_infer").is_dir() for p in sys.path):
        pytest.skip("the package is installed")
    with pytest.raises(ModelError, match="kimia_infer; install it from its repository, MoonshotAI/Kimi-Audio"):
        kimi_audio.needs(DescribeSettings(describer="kimi-audio"))


def test_what_the_package_cannot_load_is_a_model_error(package: Path) -> None:
    (package / "broken").touch()
    with pytest.raises(ModelError, match=rf"{package}: kimia_infer cannot load .*no NVIDIA driver"):
        loaded(package)
