"""Telling speakers apart: a pipeline of pyannote's own classes with small random networks, and what may not be in its folder."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msfser_cli.backends import diarization
from msfser_cli.backends.diarization import Turn, numbered
from msfser_cli.backends.quiet import quiet
from msfser_cli.errors import ModelError, RecordingError
from msfser_cli.runs import chain
from msfser_cli.settings import TranscribeSettings
from msfser_cli.stages.work import Recording, Work
from msfser_cli.store.audio import decode

pytestmark = pytest.mark.model

RATE = 16_000


def voice(seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    buzz = np.sign(np.sin(2 * np.pi * 130 * time)) * np.sin(2 * np.pi * 3 * time)
    return (0.1 * buzz + 0.01 * np.random.default_rng(0).standard_normal(len(time))).astype(np.float32)


CONFIG = """
dependencies: {pyannote.audio: 4.0.0}
pipeline:
  name: pyannote.audio.pipelines.SpeakerDiarization
  params:
    clustering: VBxClustering
    segmentation: $model/segmentation
    segmentation_step: 0.5
    segmentation_batch_size: 32
    embedding: $model/embedding
    embedding_batch_size: 32
    embedding_exclude_overlap: true
    plda: $model/plda
params:
  clustering: {threshold: 0.6, Fa: 0.07, Fb: 0.8}
  segmentation: {min_duration_off: 0.0}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As pyannote/speaker-diarization-community-1 is laid out. Its segmentation hears one voice all the time."""
    with quiet():
        import lightning
        import torch
        from pyannote.audio.core.task import Problem, Resolution, Specifications
        from pyannote.audio.models.embedding import WeSpeakerResNet34
        from pyannote.audio.models.segmentation import PyanNet

    folder = tmp_path_factory.mktemp("pipeline")
    torch.manual_seed(0)
    voices = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION, resolution=Resolution.FRAME, duration=2.0, classes=["a", "b", "c"],
        powerset_max_classes=2, permutation_invariant=True,
    )  # fmt: skip
    vectors = Specifications(problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=2.0, classes=["x"])
    small = {"hidden_size": 8, "num_layers": 1}
    for role, network, about in (
        ("segmentation", PyanNet(lstm=small, linear=small), voices),
        ("embedding", WeSpeakerResNet34(), vectors),
    ):
        network.specifications = about
        network.setup()
        if role == "segmentation":
            with torch.no_grad():
                network.classifier.bias[1] += 10
        checkpoint = {"state_dict": network.state_dict(), "hyper_parameters": dict(network.hparams)}
        checkpoint["pytorch-lightning_version"] = lightning.__version__
        network.on_save_checkpoint(checkpoint)
        checkpoint["pyannote.audio"]["versions"]["torch"] = torch.__version__
        (folder / role).mkdir()
        torch.save(checkpoint, folder / role / "pytorch_model.bin")
    random = np.random.default_rng(0)
    (folder / "plda").mkdir()
    np.savez(folder / "plda/xvec_transform.npz", mean1=np.zeros(256), mean2=np.zeros(128), lda=random.standard_normal((256, 128)))
    np.savez(folder / "plda/plda.npz", mu=np.zeros(128), tr=np.eye(128), psi=np.linspace(3, 0.1, 128))
    (folder / "config.yaml").write_text(CONFIG)
    return folder


@pytest.mark.slow
def test_it_is_the_pipeline_that_pyannote_itself_would_load(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import torch
    from pyannote.audio import Pipeline
    from pyannote.audio.telemetry.metrics import is_metrics_enabled

    samples = voice(5)
    diarizer = diarization.load(diarization.find(folder))
    turns = diarizer.turns(samples)
    assert turns == diarizer.turns(samples.copy()) == diarization.load(diarization.find(folder)).turns(samples)
    assert capfd.readouterr() == ("", "")
    assert not is_metrics_enabled()
    theirs = Pipeline.from_pretrained(folder)({"waveform": torch.from_numpy(samples)[None], "sample_rate": RATE})
    found = theirs.exclusive_speaker_diarization.itertracks(yield_label=True)
    assert turns == numbered(((s.start, s.end, label) for s, _, label in found), 5.0)
    assert {turn.speaker for turn in turns} == {"SPEAKER_00"}
    assert turns[0].start < 0.1
    assert 4.9 < turns[-1].end <= 5


def test_nobody_speaks_where_nothing_is_and_days_are_too_long(folder: Path, sparing: type) -> None:
    class Days:
        def __len__(self) -> int:
            return 48 * 3600 * RATE

    diarizer = diarization.load(diarization.find(folder))
    assert diarizer.turns(np.empty(0, np.float32)) == []
    assert all(turn.end <= 0.01 for turn in diarizer.turns(voice(0.01)))
    with pytest.raises(RecordingError, match=r"too_long: the recording has 48\.0 h") as failed:
        diarizer.turns(Days())  # type: ignore[arg-type]
    assert failed.value.reason == "too_long"


def test_speakers_are_named_as_they_come() -> None:
    found = [(2.0, 3.0, "A"), (0.0, 1.0, "C"), (0.9, 2.2, "B"), (3.0, 9.0, "C"), (2.9, 2.95, "B")]
    assert numbered(found, 8.0) == [
        Turn(0.0, 1.0, "SPEAKER_00"), Turn(1.0, 2.2, "SPEAKER_01"), Turn(2.2, 3.0, "SPEAKER_02"), Turn(3.0, 8.0, "SPEAKER_00"),
    ]  # fmt: skip


def test_the_identity_is_of_all_that_is_read(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "pipeline"))
    identities = {diarization.find(copy).identity()}
    for name in ("config.yaml", "segmentation/pytorch_model.bin", "embedding/pytorch_model.bin", "plda/plda.npz"):
        with (copy / name).open("ab") as file:
            file.write(b"\n")
        identities.add(diarization.find(copy).identity())
    assert len(identities) == 5


def test_a_stage_knows_the_speakers_and_the_table_the_pipeline(folder: Path, shared_data: Path) -> None:
    plan = chain.plan({"transcribe": TranscribeSettings(diarize=str(folder))})
    assert plan.identities()["diarizer"] == diarization.find(folder).identity()
    [step] = plan.load()
    path = shared_data / "real_speech" / "audio" / "lj_LJ001-0002.flac"
    work = Work(Recording("x", path), decode(path))
    step([work])
    assert [row["speaker"] for row in work.rows] == ["SPEAKER_00"]


def test_a_pipeline_without_its_parts_ends_a_run_before_it_begins(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "pipeline"))
    (copy / "embedding/pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match=r"embedding/pytorch_model\.bin: missing"):
        chain.plan({"transcribe": TranscribeSettings(diarize=str(copy))})


# What may not be there


class Canary:
    """What a pickle of this runs when it is loaded: it makes the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def _checkpoint(change: Callable[[dict[str, Any]], object], role: str = "segmentation") -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        import torch

        path = folder / role / "pytorch_model.bin"
        checkpoint = torch.load(path, weights_only=False)
        change(checkpoint)
        torch.save(checkpoint, path)

    return apply


def _config(old: str, new: str) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        text = (folder / "config.yaml").read_text()
        assert old in text
        (folder / "config.yaml").write_text(text.replace(old, new.replace("CANARY", str(folder.parent / "canary"))))

    return apply


def _network(module: str, name: str) -> Callable[[Path], object]:
    return _checkpoint(lambda c: c["pyannote.audio"].update(architecture={"module": module, "class": name}))


ATTACKS: dict[str, Callable[[Path], object]] = {
    "a plain pickle": lambda f: (f / "segmentation/pytorch_model.bin").write_bytes(pickle.dumps(Canary(f.parent / "canary"))),
    "a pickle beside the weights": _checkpoint(lambda c: c.update(more=Canary(Path("CANARY")))),
    "in the other network": lambda f: (f / "embedding/pytorch_model.bin").write_bytes(pickle.dumps(Canary(f.parent / "canary"))),
    "in an array": lambda f: np.savez(
        f / "plda/plda.npz", mu=np.array([Canary(f.parent / "canary")], dtype=object), tr=np.eye(128), psi=np.ones(128)
    ),
    "a preprocessor": _config("dependencies:", "preprocessors: {x: {name: subprocess.Popen, params: {args: [touch, CANARY]}}}\n"
                              "dependencies:"),
    "another class": _config("pyannote.audio.pipelines.SpeakerDiarization", "subprocess.Popen"),
    "a class in YAML": _config("VBxClustering", "!!python/object/apply:os.system ['touch CANARY']"),
    "anchors": _config("threshold: 0.6", "threshold: &x 0.6"),
    "a model elsewhere": _config("$model/embedding", "someone/embedding"),
    "a folder above": _config("$model/plda", "$model/../plda"),
    "another argument": _config("embedding_batch_size: 32", "cache_dir: CANARY"),
    "a text for a number": _config("segmentation_batch_size: 32", "segmentation_batch_size: many"),
    "no step": _config("segmentation_step: 0.5", "segmentation_step: 0.0"),
    "a parameter of no clustering": _config("Fa: 0.07", "Fz: 0.07"), "a list": _config("Fa: 0.07", "Fa: [1]"),
    "no configuration": lambda f: (f / "config.yaml").unlink(),
    "too much of it": lambda f: (f / "config.yaml").write_text(" " * 10**6),
    "a missing part": lambda f: (f / "plda/plda.npz").unlink(), "a cut part": lambda f: (f / "plda/plda.npz").write_bytes(b"PK"),
    "another network": _network("os", "system"),
    "a network that fetches": _network("pyannote.audio.models.segmentation", "SSeRiouSS"),
    "absurd sizes": _checkpoint(lambda c: c["hyper_parameters"]["lstm"].update(hidden_size=10**9)),
    "many layers": _checkpoint(lambda c: c["hyper_parameters"]["lstm"].update(num_layers=10**6)),
    "another rate": _checkpoint(lambda c: c["hyper_parameters"].update(sample_rate=8000)),
    "missing weights": _checkpoint(lambda c: c["state_dict"].pop("classifier.bias")),
    "not finite": _checkpoint(lambda c: c["state_dict"]["classifier.bias"].fill_(float("nan"))),
    "no specifications": _checkpoint(lambda c: c["pyannote.audio"].pop("specifications")),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_pipeline_that_is_not_what_it_should_be_is_refused(folder: Path, tmp_path: Path, attack: str) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "pipeline"))
    canaries = [tmp_path / "canary", Path("CANARY").absolute()]
    ATTACKS[attack](copy)
    assert not any(canary.exists() for canary in canaries)
    with pytest.raises(ModelError, match=str(copy)):
        diarization.load(diarization.find(copy))
    assert not any(canary.exists() for canary in canaries)
