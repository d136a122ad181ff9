"""Which aligners a run has: found and settled before anything is decoded, and named in the table."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from msfser_cli.backends.registry import loaded
from msfser_cli.errors import MissingModelError, ModelError, UsageError
from msfser_cli.model_store import models
from msfser_cli.model_store.registry import aligners, registry
from msfser_cli.runs import chain
from msfser_cli.settings import TranscribeSettings
from msfser_cli.stages.work import Recording, Work
from msfser_cli.store.audio import decode

pytestmark = pytest.mark.model

WHISPERX = {"transcriber": "whisperx", "aligner": "per-language"}


@pytest.fixture
def english(ctc_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache that holds an aligner for English, and none else."""
    name = aligners()["en"]
    monkeypatch.setitem(registry()[name].files, "model.safetensors", "")  # it is another one
    whisper = models.locate("whisper-base").path
    monkeypatch.setenv("MSFSER_CACHE", str(tmp_path))
    folder = tmp_path / "models" / f"{name}-{registry()[name].revision[:12]}"
    folder.mkdir(parents=True)
    (tmp_path / "models" / whisper.name).symlink_to(whisper)
    for file in registry()[name].files:
        source = ctc_folder / file
        (folder / file).write_bytes(source.read_bytes() if source.exists() else b"{}")
    models.locate.cache_clear()
    yield folder
    models.locate.cache_clear()


def planned(**settings: str) -> chain.Chain:
    return chain.plan({"transcribe": TranscribeSettings(**WHISPERX | settings)})  # type: ignore[arg-type]


def test_every_registered_aligner_is_pinned_and_has_weights() -> None:
    assert {"de", "en", "es", "fr", "it"} <= set(aligners())
    for name in aligners().values():
        model = registry()[name]
        assert len(model.revision) == 40
        assert {"config.json", "vocab.json"} < set(model.files)
        assert len({"model.safetensors", "pytorch_model.bin"} & set(model.files)) == 1


def test_the_languages_that_have_an_aligner_are_settled_and_named(english: Path) -> None:
    plan = planned()
    settings = plan.settings["transcribe"]
    assert isinstance(settings, TranscribeSettings)
    assert settings.aligner == "per-language:en"
    assert plan.identities()["aligner:en"] == f"facebook/wav2vec2-base-960h@{registry()['aligner-en'].revision}"
    assert plan.notes == ("aligners: en; words of other languages get Whisper's word times",)
    # With the language given, or named outright, it is the same work, and there is nothing to say of others.
    for same in (planned(aligner="per-language:en"), planned(language="en")):
        assert same.identities() == plan.identities()
        assert (same.settings["transcribe"].aligner) == "per-language:en"  # type: ignore[union-attr]
    assert planned(language="en").notes == ()


@pytest.mark.parametrize("asked", [{"language": "de"}, {"aligner": "per-language:de,en"}])
def test_an_aligner_that_is_asked_for_must_be_here(english: Path, asked: dict[str, str]) -> None:
    with pytest.raises(MissingModelError, match=r"aligner-de .*is not on this machine; run: .*--aligner ''"):
        planned(**asked)


def test_there_must_be_one_at_all_and_one_that_is_known(english: Path) -> None:
    with pytest.raises(ModelError, match="msfser has no aligner for sw"):
        planned(language="sw")
    (english / "vocab.json").unlink()
    models.locate.cache_clear()
    with pytest.raises(MissingModelError, match="no aligner is on this machine; get one with: msfser models fetch aligner-en"):
        planned()
    assert planned(aligner="").models.keys() == {"transcriber"}


def test_an_altered_aligner_is_not_taken_for_a_missing_one(english: Path) -> None:
    (english / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="not part of"):
        planned()


def test_a_transcriber_that_takes_no_aligner_says_so(english: Path) -> None:
    plan = planned(transcriber="faster-whisper")
    with pytest.raises(UsageError, match="--aligner ''"):
        loaded("transcribers", "faster-whisper", plan.models["transcriber"].path, {"en": english}, plan.settings["transcribe"])


@pytest.mark.slow
def test_a_language_without_an_aligner_is_told_once(
    english: Path, shared_data: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    [step] = planned().load()
    speech = shared_data / "real_speech" / "audio"
    clips = {"en": decode(speech / "jfk.flac"), "de": decode(speech / "fw_multilingual.flac")}
    clips["de"].samples = clips["de"].samples[30 * 16_000 : 40 * 16_000]
    with caplog.at_level(logging.WARNING, "msfser"):
        for language in ("en", "de", "de"):
            work = Work(Recording("x", tmp_path), clips[language])
            step([work])
            assert {row["language"] for row in work.rows} == {language}
            assert all(word["aligned"] for row in work.rows for word in row["words"])
    assert caplog.messages == [
        "no aligner for de: its words get Whisper's word times; get one with: msfser models fetch aligner-de"
    ]


@pytest.mark.parametrize("token", [None, "hf_x"])
def test_a_diarisation_that_is_not_here_ends_the_run_before_anything_is_decoded(tmp_path: Path, token: str | None) -> None:
    (tmp_path / "a.wav").write_bytes(b"what would fail if it were decoded")
    environment = {k: v for k, v in os.environ.items() if k != "HF_TOKEN"} | ({"HF_TOKEN": token} if token else {})
    arguments = ["transcribe", "a.wav", "--out", "x.parquet", "--diarize", "pyannote/speaker-diarization-community-1"]
    done = subprocess.run(
        [sys.executable, "-c", "from msfser_cli.cli.app import main; main()", *arguments],
        cwd=tmp_path, capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 5
    assert "accept its terms on its page" in done.stderr
    assert "hf download pyannote/speaker-diarization-community-1" in done.stderr
    assert ("set HF_TOKEN" in done.stderr) == (token is None)
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
