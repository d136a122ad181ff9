"""What the tests on a GPU share: the card, the models of real size, the speech, and the figures that are written down."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kit.audio_language_models import in_bfloat16, make_it_say, save_qwen2_audio
from kit.gpu import Card, Gpu, NoGpu
from kit.places import QUICKSTART, ROOT
from kit.program import run_afresh
from kit.sounds import write_wav
from kit.speech_models import RATE, save_roberta, save_speech_model
from msfser_cli.store.audio import decode

REAL_SPEECH = ROOT / "../shared/data/real_speech/audio"
LONGEST = 30
"""Seconds of a recording of real speech that are heard. The CPU hears them too, and is slow."""
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
FIRST = ("test_whisper", "test_program", "test_encoders", "test_memory")
"""The tests that come first, in case the time does not suffice for all."""

Note = Callable[..., None]


@dataclass(frozen=True)
class Sizes:
    """How much is done. wavlm, roberta, listener: the fields of the models' configs that differ from the small models'."""

    wavlm: dict[str, Any] = field(default_factory=dict)
    roberta: dict[str, Any] = field(default_factory=dict)
    listener: dict[str, Any] = field(default_factory=dict)
    clips: int = 6
    recordings: int = 6
    seconds: float = 6.0
    steps: int = 12


REAL = Sizes(
    wavlm={**LARGE, "conv_dim": (512,) * 7, "num_conv_pos_embeddings": 128, "num_conv_pos_embedding_groups": 16},
    roberta={**LARGE, "longest": 512, "vocab_size": 50_265},
    listener={"hidden_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 16, "num_key_value_heads": 8,
              "intermediate_size": 2816},
    clips=64, recordings=24, seconds=24.0, steps=25,
)  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--tiny") and not torch.cuda.is_available():
        raise pytest.UsageError(
            "torch finds no GPU, and tests/gpu need one; run them where there is one, or pass --tiny to try them on the CPU"
        )
    items.sort(key=lambda item: FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST))


@pytest.fixture(scope="session")
def tiny(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--tiny"))


@pytest.fixture(scope="session")
def sizes(tiny: bool) -> Sizes:
    return Sizes() if tiny else REAL


@pytest.fixture(scope="session")
def card() -> Card:
    return Gpu() if torch.cuda.is_available() else NoGpu()


class Figures:
    """Prints each figure at once, and writes all of them to `gpu.json` in the folder $OUT, if that is set."""

    def __init__(self, machine: dict[str, Any], config: pytest.Config) -> None:
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self._all: dict[str, Any] = {"machine": machine, "figures": []}
        for name, value in machine.items():
            self._say(f"{name}: {value}")

    def add(self, test: str, what: str, value: float | int | str, unit: str = "") -> None:
        value = float(f"{value:.4g}") if isinstance(value, float) else value
        self._all["figures"].append({"test": test, "what": what, "value": value, "unit": unit})
        self._say(f"{what}: {value} {unit}".rstrip())
        if out := os.environ.get("OUT"):
            path = Path(out, "gpu.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self._all, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _say(self, line: str) -> None:
        with self._capture.global_and_fixture_disabled():
            print(f"\n  {line}", end="", flush=True)


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config, card: Card, tiny: bool) -> Figures:
    packages = ("torch", "transformers", "ctranslate2", "faster-whisper")
    return Figures({**card.about(), **{name: version(name) for name in packages}, "cuda": torch.version.cuda,
                    "python": platform.python_version(), "cores": len(os.sched_getaffinity(0)), "tiny": tiny,
                    "date": time.strftime("%Y-%m-%d")}, pytestconfig)  # fmt: skip


@pytest.fixture
def note(figures: Figures, request: pytest.FixtureRequest) -> Note:
    """`note(what, value, unit)` prints a figure and writes it down, whatever becomes of the test."""

    def add(what: str, value: float | int | str, unit: str = "") -> None:
        figures.add(request.node.name, what, value, unit)

    return add


@pytest.fixture(scope="session")
def wavlm(sizes: Sizes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WavLM-Large with random weights."""
    return save_speech_model(tmp_path_factory.mktemp("models") / "wavlm-large", "wavlm", **sizes.wavlm)


@pytest.fixture(scope="session")
def roberta(sizes: Sizes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RoBERTa-Large with random weights."""
    return save_roberta(tmp_path_factory.mktemp("models") / "roberta-large", **sizes.roberta)


@pytest.fixture(scope="session")
def listener(sizes: Sizes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2-Audio in bfloat16 that answers anything with the same sentence."""
    return in_bfloat16(make_it_say(save_qwen2_audio(tmp_path_factory.mktemp("models") / "listener", **sizes.listener)))


@pytest.fixture(scope="session")
def speech(tiny: bool) -> dict[str, np.ndarray]:
    """Recordings by name: the quickstart corpus, and the real speech beside the checkout if it is there. float32 [n], 16 kHz."""
    paths = sorted(path for path in (QUICKSTART / "corpus").rglob("*.*") if path.is_file())
    if tiny:
        paths = [path for path in paths if path.stem in ("good_news", "morgen", "tones")]
    elif REAL_SPEECH.is_dir():
        paths += sorted(REAL_SPEECH.iterdir())
    return {path.name: np.array(decode(path).samples[: LONGEST * RATE if path.parent == REAL_SPEECH else None]) for path in paths}


@pytest.fixture(scope="session")
def clips(sizes: Sizes) -> list[np.ndarray]:
    """Clips of 1 to 7.5 s of a story, with faint noise: float32 [n], 16 kHz.

    The layer norms of a random encoder would amplify the rounding error of the mean in digital silence to full scale.
    """
    story = np.array(decode(QUICKSTART / "corpus" / "episode.mp3").samples[:])
    story += 3e-4 * np.random.default_rng(0).standard_normal(len(story)).astype(np.float32)
    starts = np.linspace(0, len(story) - 8 * RATE, sizes.clips).astype(int)
    return [story[start : start + round((1 + 6.5 * (i * 7 % 10) / 9) * RATE)] for i, start in enumerate(starts)]


@pytest.fixture(scope="session")
def corpus(speech: dict[str, np.ndarray], sizes: Sizes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of recordings of several utterances each, in all some minutes, each from another place on in the speech."""
    folder = tmp_path_factory.mktemp("corpus")
    together = np.concatenate([np.pad(samples, (0, RATE)) for samples in speech.values()])
    for i, start in enumerate(np.linspace(0, len(together), sizes.recordings, endpoint=False).astype(int)):
        write_wav(folder / f"{i:03d}.wav", np.roll(together, -start)[: round(sizes.seconds * RATE)])
    return folder


Run = Callable[..., Any]


@pytest.fixture
def run(card: Card, note: Note, corpus: Path, sizes: Sizes, tmp_path: Path) -> Run:
    """`run(what, *arguments)` runs msfser in `tmp_path`, notes its time and memory as those of `what`, and returns what it said.

    It must exit with 0, or with `code`. hours: of the audio it hears.
    """

    def run(what: str, *arguments: object, code: int = 0, hours: float = sizes.recordings * sizes.seconds / 3600,
            **environment: str) -> Any:  # fmt: skip
        with card.taken() as peak:
            began = time.monotonic()
            done = run_afresh(tmp_path, *map(str, arguments), **environment)
            seconds = time.monotonic() - began
        note(f"{what}: time of the whole process", seconds, "s")
        if done.returncode == code == 0 and hours:
            note(f"{what}: speed", hours * 3600 / seconds, "hours of audio an hour, start included")
            note(f"{what}: memory of the GPU", peak.gib, "GiB")
        assert done.returncode == code, done.stderr
        return done

    return run
