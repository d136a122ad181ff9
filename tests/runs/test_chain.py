"""A head and the vectors that it scores: it knows the encoders that made those it was trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from msfser_cli.errors import ModelError
from msfser_cli.model import weights
from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.msf_ser import MsfSer
from msfser_cli.model_store.models import ModelFolder
from msfser_cli.model_store.registry import registry
from msfser_cli.runs.chain import Chain
from msfser_cli.settings import PredictSettings

WHISPER = registry()["whisper-base"]
OF_WHISPER = f"{WHISPER.source}@{WHISPER.revision}"


def check(folder: Path, trained: str, model: str, identity: str) -> None:
    """Whether a head that was trained on the vectors of `trained` takes those of `model`, which has this identity."""
    weights.save(folder, MsfSer(MsfSerConfig(acoustic_dim=2, text_dim=2, acoustic_encoder=trained)))
    chain = Chain({"predict": PredictSettings(head=str(folder))}, {"head": ModelFolder(folder, "head")})
    chain.check_vectors({"acoustic_encoder": "whisper", "acoustic_model": model}, {"acoustic": identity})


def test_the_same_encoder_is_known_wherever_it_lies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check(tmp_path, "whisper:wavlm sha256:01", "/b/wavlm", "wavlm sha256:01")
    check(tmp_path, f"whisper:{OF_WHISPER}", "whisper-base", OF_WHISPER)
    check(tmp_path, "", "/b/wavlm", "wavlm sha256:01")
    assert not caplog.text


@pytest.mark.parametrize("trained", ["whisper:wavlm sha256:02", "whisper:owner/wavlm@1", "whisper:other", "double:wavlm"])
def test_another_encoder_of_the_same_name_is_refused(tmp_path: Path, trained: str) -> None:
    with pytest.raises(ModelError, match=f"acoustic vectors of {trained}, but the table has those of whisper:wavlm sha256:01"):
        check(tmp_path, trained, "/a/wavlm", "wavlm sha256:01")


def test_a_head_that_knows_only_a_name_is_believed_where_the_registry_knows_it_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    check(tmp_path, "whisper:whisper-base", "whisper-base", OF_WHISPER)
    assert not caplog.text
    check(tmp_path, "whisper:wavlm", "/a/wavlm", "wavlm sha256:01")
    assert "only the name of its acoustic encoder, whisper:wavlm; the table has vectors of whisper:wavlm sha256:01" in caplog.text
    caplog.clear()
    check(tmp_path, "whisper:whisper-base", "/a/whisper-base", "whisper-base sha256:01")
    assert "make sure that they are the same model" in caplog.text
