"""Speaker diarization: who speaks when, with a pipeline of pyannote.audio. No file of the pipeline can run code.

pyannote's own loader is not safe: it unpickles checkpoints, creates objects of any class that a configuration names, and gets
further models over the network. For msfser, a pipeline is a folder with all of its parts, such as
pyannote/speaker-diarization-community-1:

    config.yaml, segmentation/pytorch_model.bin, embedding/pytorch_model.bin, plda/plda.npz, plda/xvec_transform.npz

The configuration may set numbers and name one of `_CLUSTERINGS`. Checkpoints are pickles. torch's restricted unpickler reads
them; it creates only tensors, plain data and `Specifications`. They may name the classes in `_NETWORKS`.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msfser_cli.backends.loading import loading, require_finite
from msfser_cli.backends.quiet import quiet
from msfser_cli.errors import ModelError, RecordingError
from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from msfser_cli.store.audio import Samples

LONGEST = 4 * 3600.0
"""The longest recording, in seconds. Diarization loads the whole recording (230 MB per hour), and the distances between all its
segments. For 4 hours, that is about 5 GB.
"""

_PIPELINES = ("pyannote.audio.pipelines.SpeakerDiarization", "pyannote.audio.pipelines.speaker_diarization.SpeakerDiarization")
_CLUSTERINGS = ("VBxClustering", "AgglomerativeClustering")
_NETWORKS = {
    "segmentation": {"PyanNet": "pyannote.audio.models.segmentation"},
    "embedding": dict.fromkeys(
        ("WeSpeakerResNet34", "WeSpeakerResNet152", "WeSpeakerResNet221", "WeSpeakerResNet293"), "pyannote.audio.models.embedding"
    ),
}
_CHOOSE = "pass --diarize a pipeline with all its parts, such as pyannote/speaker-diarization-community-1"
_PART = re.compile(r"\$model/([\w-]+)")
_CONFIG_BYTES = 100_000
_LARGEST = 1024
"""The largest size that a checkpoint or a configuration may have, apart from the sample rate."""


@dataclass(frozen=True)
class Turn:
    """A speaker's turn. start, end: in seconds from the start of the recording."""

    start: float
    end: float
    speaker: str


@dataclass(frozen=True)
class Pipeline:
    """A pipeline in a folder, not loaded.

    files: the files of its parts, by `role/name`. arguments: of its class. parameters: its numbers.
    """

    folder: Path
    files: dict[str, Path]
    arguments: dict[str, Any]
    parameters: dict[str, Any]

    def identity(self) -> str:
        """The folder's name, and a hash of all files that are read."""
        digest = hashlib.sha256()
        for path in (self.folder / "config.yaml", *self.files.values()):
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return f"{self.folder.name} sha256:{digest.hexdigest()[:16]}"


def find(folder: Path) -> Pipeline:
    """The pipeline in `folder`, without loading it.

    ModelError if it is not a pipeline, if a part is missing, or if its configuration has anything but its parts and numbers.
    """
    path = folder / "config.yaml"
    config = _config(path)
    pipeline = config.get("pipeline")
    if not isinstance(pipeline, dict) or pipeline.get("name") not in _PIPELINES or set(config) - {
        "dependencies", "version", "pipeline", "params"
    }:  # fmt: skip
        raise ModelError(f"{path}: not the configuration of a diarization pipeline of pyannote.audio; {_CHOOSE}")
    params = pipeline.get("params") or {}
    if not isinstance(params, dict):
        raise ModelError(f"{path}: params must be names with values; {_CHOOSE}")
    files: dict[str, Path] = {}
    for role, names in (("segmentation", ("pytorch_model.bin",)), ("embedding", ("pytorch_model.bin",)),
                        ("plda", ("xvec_transform.npz", "plda.npz"))):  # fmt: skip
        part = _PART.fullmatch(str(params.get(role)))
        if part is None:
            raise ModelError(f"{path}: its {role} is not in the same folder; {_CHOOSE}")
        for name in names:
            files[f"{role}/{name}"] = file = folder / part[1] / name
            if not file.is_file():
                raise ModelError(f"{file}: missing; get the whole model again")
    arguments = {name: value for name, value in params.items() if name not in ("segmentation", "embedding", "plda")}
    for name, value in arguments.items():
        kind = _ARGUMENTS.get(name)
        valid = kind is not None and type(value) is kind
        valid = valid and (value in _CLUSTERINGS if kind is str else kind is bool or 0 < value <= _LARGEST)
        if not valid:
            raise ModelError(f"{path}: {name} is {value!r:.60}, which msfser does not support; {_CHOOSE}")
    parameters = config.get("params") or {}
    if not isinstance(parameters, dict) or not all(_is_number(v) for v in _values(parameters)):
        raise ModelError(f"{path}: its parameters are not numbers; {_CHOOSE}")
    return Pipeline(folder, files, arguments, parameters)


_ARGUMENTS: dict[str, Any] = {
    "clustering": str, "segmentation_batch_size": int, "embedding_batch_size": int, "embedding_exclude_overlap": bool,
    "segmentation_step": float,
}  # fmt: skip


class Diarizer:
    """A loaded pipeline."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline

    def turns(self, samples: Samples) -> list[Turn]:
        """The turns in `samples` (float32 [n], 16 kHz): in order and without overlap.

        Speakers are called SPEAKER_00 and so on, by their first turn. RecordingError for more than `LONGEST` seconds.
        """
        import torch

        duration = len(samples) / SAMPLE_RATE_HZ
        if duration > LONGEST:
            hours = duration / 3600
            raise RecordingError(
                "too_long", f"the recording has {hours:.1f} h, but --diarize takes at most {LONGEST / 3600:.0f} h; split it"
            )
        if not len(samples):
            return []
        audio = {"waveform": torch.from_numpy(samples[:])[None], "sample_rate": SAMPLE_RATE_HZ, "uri": "recording"}
        with quiet():
            annotation = self._pipeline(audio).exclusive_speaker_diarization
        return numbered(((s.start, s.end, label) for s, _, label in annotation.itertracks(yield_label=True)), duration)


def numbered(tracks: Iterable[tuple[float, float, str]], duration: float) -> list[Turn]:
    """The turns in order, within `duration` seconds and without overlap, with speakers numbered by first turn.

    tracks: start and end in seconds, and any label for the speaker.
    """
    names: dict[str, str] = {}
    turns: list[Turn] = []
    for start, end, label in sorted(tracks):
        start, end = max(0.0, start, turns[-1].end if turns else 0.0), min(end, duration)
        if start < end:
            turns.append(Turn(start, end, names.setdefault(label, f"SPEAKER_{len(names):02d}")))
    return turns


def load(pipeline: Pipeline) -> Diarizer:
    """Load a pipeline, onto the GPU if there is one. ModelError if a part is damaged or could run code."""
    with loading(pipeline.folder, "cannot load this pipeline"), quiet():
        import torch
        from pyannote.audio.core.plda import PLDA
        from pyannote.audio.pipelines import SpeakerDiarization

        files = pipeline.files
        loaded = SpeakerDiarization(
            segmentation=_network("segmentation", files["segmentation/pytorch_model.bin"]),
            embedding=_network("embedding", files["embedding/pytorch_model.bin"]),
            plda=PLDA(files["plda/xvec_transform.npz"], files["plda/plda.npz"]),
            **pipeline.arguments,
        )
        loaded.instantiate(pipeline.parameters or loaded.default_parameters())
        loaded.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return Diarizer(loaded)


def _network(role: str, path: Path) -> Any:
    """The network in a checkpoint of pyannote.audio, in evaluation mode. ModelError if it is damaged or could run code."""
    import importlib
    import inspect

    with loading(path, "cannot load this checkpoint"):
        checkpoint = _without_code(path)
        about = checkpoint["pyannote.audio"]
        name = about["architecture"]["class"]
        if name not in _NETWORKS[role]:
            raise ModelError(
                f"{path}: the network's class is {name!r:.60}, but msfser supports only {', '.join(_NETWORKS[role])}; {_CHOOSE}"
            )
        kind = getattr(importlib.import_module(_NETWORKS[role][name]), name)
        arguments = set(inspect.signature(kind.__init__).parameters) - {"self", "task"}
        sizes = {name: value for name, value in checkpoint.get("hyper_parameters", {}).items() if name in arguments}
        rate = sizes.pop("sample_rate", SAMPLE_RATE_HZ)
        numbers = [v for v in _values(sizes, skip="sample_rate") if isinstance(v, int | float)]
        if rate != SAMPLE_RATE_HZ or not all(0 <= v <= _LARGEST for v in numbers):
            raise ModelError(f"{path}: its sizes are far beyond those of any published model; get the whole model again")
        network = kind(**sizes)
        network.on_load_checkpoint(checkpoint)
        weights = {name: w for name, w in checkpoint["state_dict"].items() if not name.startswith("loss_func.")}
        network.load_state_dict(weights)
    require_finite(path, network.named_parameters())
    return network.eval()


def _without_code(path: Path) -> dict[str, Any]:
    """The content of a checkpoint. ModelError if it has more than data."""
    import torch
    from pyannote.audio.core.task import Problem, Resolution, Specifications

    try:
        with torch.serialization.safe_globals([Specifications, Problem, Resolution, torch.torch_version.TorchVersion]):
            return dict(torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        # torch's message goes on with advice to load it unsafely.
        reason = next((line.strip() for line in str(error).split("\n") if "Unsupported" in line), "it has more than data")
        raise ModelError(
            f"{path}: cannot read this checkpoint without running code ({reason:.300}); get the whole model again"
        ) from error


def _config(path: Path) -> dict[str, Any]:
    import yaml

    try:
        if not path.is_file():  # a pipe would block
            raise ModelError(f"{path}: missing; {_CHOOSE}")
        with path.open("rb") as file:
            raw = file.read(_CONFIG_BYTES + 1)
        if len(raw) > _CONFIG_BYTES or b"&" in raw:  # with YAML anchors, a few lines can expand to gigabytes
            raise ModelError(f"{path}: not the configuration of a pipeline; {_CHOOSE}")
        config = yaml.safe_load(raw)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ModelError(f"{path}: not a YAML file ({error}); {_CHOOSE}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: not the configuration of a pipeline; {_CHOOSE}")
    return config


def _values(tree: Mapping[str, Any], skip: str = "") -> Iterable[Any]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _values(value, skip)
        elif name != skip:
            yield value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)
