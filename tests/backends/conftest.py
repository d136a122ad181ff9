"""Speech that the tests share: words buzzed at a given pitch, level and length, and clips of real speech."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit.chat_server import ChatServer
from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.store.audio import Audio, decode

# Two clips of LJ Speech (public domain) with the word times that Whisper-base gives.
TIMED = {
    "lj_LJ001-0001": """
        Printing, 0.00 0.56 in 0.76 0.96 the 0.96 1.10 only 1.10 1.40 sense 1.40 1.82 with 1.82 2.06 which 2.06 2.32 we 2.32 2.50
        are 2.50 2.70 at 2.70 2.84 present 2.84 3.14 concerned, 3.14 3.88 differs 4.48 4.70 from 4.70 5.18 most 5.18 5.60
        if 5.60 5.78 not 5.78 5.96 from 5.96 6.24 all 6.24 6.60 the 6.60 6.76 arts 6.76 7.02 and 7.02 7.18 crafts 7.18 7.54
        represented 7.54 8.30 in 8.30 8.66 the 8.66 8.78 exhibition. 8.78 9.36""",
    "lj_LJ001-0005": """
        The 0.00 0.10 invention 0.10 0.50 of 0.50 0.74 movable 0.74 1.16 metal 1.16 1.50 letters 1.50 1.94 in 1.94 2.20
        the 2.20 2.30 middle 2.30 2.50 of 2.50 2.70 the 2.70 2.78 15th 2.78 3.36 century 3.36 3.82 may 3.82 4.38 justly 4.38 4.92
        be 4.92 5.06 considered 5.06 5.60 as 5.60 6.16 the 6.16 6.38 invention 6.38 6.82 of 6.82 7.02 the 7.02 7.14 art 7.14 7.34
        of 7.34 7.50 printing. 7.50 7.82""",
}

Utterance = tuple[Audio, dict[str, Any]]


def utterance_row(words: list[tuple[str, float, float]], end: float, **columns: Any) -> dict[str, Any]:
    """A row as `describe` gets it, without emphasis, from words with their times."""
    timed = [{"word": w, "start": start, "end": end, "score": 0.9, "aligned": True} for w, start, end in words]
    said = {"text": " ".join(word["word"] for word in timed), "words": timed, "emphasis_spans": []}
    return {"start": 0.0, "end": end, "language": "en", "speaker": None, **said, **columns}


def buzzed(words: list[tuple[str, float, float, float]], gap: float = 0.05) -> Utterance:
    """Words of (text, F0 in Hz or 0 for noise, level in dB, seconds), `gap` seconds apart, as audio and its row."""
    noise = np.random.default_rng(1)
    silence = np.zeros(round(gap * SAMPLE_RATE_HZ))
    pieces, timed, now = [silence], [], gap
    for text, f0_hz, level_db, seconds in words:
        t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        sound = sum(np.sin(2 * np.pi * f0_hz * k * t) / k for k in range(1, 11)) if f0_hz else noise.normal(size=len(t))
        pieces += [sound / np.sqrt(np.mean(sound**2)) * 10 ** (level_db / 20), silence]
        timed.append((text, now, now + seconds))
        now += seconds + gap
    samples = np.concatenate(pieces).astype(np.float32)
    return Audio(samples), utterance_row(timed, len(samples) / SAMPLE_RATE_HZ)


@pytest.fixture(scope="session")
def buzz() -> Callable[..., Utterance]:
    return buzzed


@pytest.fixture(scope="session", params=sorted(TIMED))
def real_utterance(request: pytest.FixtureRequest, shared_data: Path) -> Utterance:
    audio = decode(shared_data / "real_speech" / "audio" / f"{request.param}.flac")
    fields = TIMED[request.param].split()
    words = [(fields[i], float(fields[i + 1]), float(fields[i + 2])) for i in range(0, len(fields), 3)]
    return audio, utterance_row(words, audio.duration)


@pytest.fixture
def chat_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    """A server that describes whatever it is asked about; there is no key, no proxy, and nothing is remembered yet."""
    for name in os.environ:
        if name.startswith("MSFSER_") and not name.startswith("MSFSER_TEST_"):
            monkeypatch.delenv(name)
    for name in ("OPENAI_API_KEY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("MSFSER_CACHE", str(tmp_path / "cache"))
    server = ChatServer()
    yield server
    server.close()
    assert server.wrong == []


@pytest.fixture(scope="session")
def audio_language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small Qwen2-Audio that answers anything with `SENTENCE`."""
    from kit.audio_language_models import make_it_say, save_qwen2_audio

    return make_it_say(save_qwen2_audio(tmp_path_factory.mktemp("models") / "sayer"))
