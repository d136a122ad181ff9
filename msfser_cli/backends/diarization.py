"""Who speaks when: pyannote.audio's pipeline on a folder, loaded without anything in that folder being able to run code.

pyannote's own loader unpickles checkpoints, makes objects of whatever classes a configuration names, and reads further models
over the network. Here a pipeline is a folder that brings its parts along, as pyannote/speaker-diarization-community-1 does:

    config.yaml, segmentation/pytorch_model.bin, embedding/pytorch_model.bin, plda/plda.npz, plda/xvec_transform.npz

The configuration may name the two classes of clusterings and set numbers. Checkpoints are pickles, read by torch's restricted
unpickler, which makes tensors, plain data and `Specifications` alone; they may name the classes of `_NETWORKS`.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msfser_cli.backends.quiet import quiet
from msfser_cli.errors import ModelError, RecordingError
from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from msfser_cli.store.audio import Samples

LONGEST = 4 * 3600.0
"""Seconds. The whole recording is in memory, 230 MB an hour, and so are the distances between all of its stretches: some 5 GB."""

_PIPELINES = ("pyannote.audio.pipelines.SpeakerDiarization", "pyannote.audio.pipelines.speaker_diarization.SpeakerDiarization")
_CLUSTERINGS = ("VBxClustering", "AgglomerativeClustering")
_NETWORKS = {
    "segmentation": {"PyanNet": "pyannote.audio.models.segmentation"},
    "embedding": dict.fromkeys(
        ("WeSpeakerResNet34", "WeSpeakerResNet152", "WeSpeakerResNet221", "WeSpeakerResNet293"), "pyannote.audio.models.embedding"
    ),
}
_PART = re.compile(r"\$model/([\w-]+)")
_CONFIG_BYTES = 100_000
_LARGEST = 1024
"""No size in a checkpoint is larger, the sample rate aside."""


@dataclass(frozen=True)
class Turn:
    """A stretch, in seconds, in which a speaker of the recording is heard."""

    start: float
    end: float
    speaker: str


@dataclass(frozen=True)
class Pipeline:
    """What a pipeline's folder holds: the files of its parts, the arguments of its class, and its parameters."""

    folder: Path
    files: dict[str, Path]
    arguments: dict[str, Any]
    parameters: dict[str, Any]

    def identity(self) -> str:
        """The folder's name, and a hash of all that is read."""
        digest = hashlib.sha256()
        for path in (self.folder / "config.yaml", *self.files.values()):
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return f"{self.folder.name} sha256:{digest.hexdigest()[:16]}"


def find(folder: Path) -> Pipeline:
    """The pipeline in `folder`, of which nothing is loaded yet. ModelError where there is none, or one that asks for more than
    its own parts and numbers.
    """
    path = folder / "config.yaml"
    config = _config(path)
    pipeline = config.get("pipeline")
    if not isinstance(pipeline, dict) or pipeline.get("name") not in _PIPELINES or set(config) - {
        "dependencies", "version", "pipeline", "params"
    }:  # fmt: skip
        raise ModelError(f"{path}: not the configuration of a speaker diarisation by pyannote.audio, and of nothing else")
    given = pipeline.get("params") or {}
    if not isinstance(given, dict):
        raise ModelError(f"{path}: its params are no names with values")
    files: dict[str, Path] = {}
    for role, names in (("segmentation", ("pytorch_model.bin",)), ("embedding", ("pytorch_model.bin",)),
                        ("plda", ("xvec_transform.npz", "plda.npz"))):  # fmt: skip
        part = _PART.fullmatch(str(given.get(role)))
        if part is None:
            raise ModelError(
                f"{path}: its {role} is not a part of the same folder; --diarize takes a pipeline that brings its parts along, "
                "such as pyannote/speaker-diarization-community-1"
            )
        for name in names:
            files[f"{role}/{name}"] = file = folder / part[1] / name
            if not file.is_file():
                raise ModelError(f"{file}: missing; get the whole of the model again")
    arguments = {name: value for name, value in given.items() if name not in ("segmentation", "embedding", "plda")}
    for name, value in arguments.items():
        kind = _ARGUMENTS.get(name)
        known = kind is not None and type(value) is kind
        known = known and (value in _CLUSTERINGS if kind is str else kind is bool or 0 < value <= _LARGEST)
        if not known:
            raise ModelError(f"{path}: {name} is {value!r:.60}, which is not known here")
    parameters = config.get("params") or {}
    if not isinstance(parameters, dict) or not all(_is_number(v) for v in _values(parameters)):
        raise ModelError(f"{path}: its parameters are not numbers")
    return Pipeline(folder, files, arguments, parameters)


_ARGUMENTS: dict[str, Any] = {
    "clustering": str, "segmentation_batch_size": int, "embedding_batch_size": int, "embedding_exclude_overlap": bool,
    "segmentation_step": float,
}  # fmt: skip


class Diarizer:
    """A pipeline, ready to listen."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline

    def turns(self, samples: Samples) -> list[Turn]:
        """Who speaks when: in order, none overlapping another, speakers named SPEAKER_00 and so on as they come.

        RecordingError for more than `LONGEST` seconds.
        """
        import torch

        duration = len(samples) / SAMPLE_RATE_HZ
        if duration > LONGEST:
            hours = duration / 3600
            raise RecordingError("too_long", f"{hours:.1f} h; speakers are told apart in at most {LONGEST / 3600:.0f} h")
        if not len(samples):
            return []
        heard = {"waveform": torch.from_numpy(samples[:])[None], "sample_rate": SAMPLE_RATE_HZ, "uri": "recording"}
        with quiet():
            found = self._pipeline(heard).exclusive_speaker_diarization
        return named(((s.start, s.end, label) for s, _, label in found.itertracks(yield_label=True)), duration)


def named(found: Iterable[tuple[float, float, str]], duration: float) -> list[Turn]:
    """Turns of (start, end, any name), in order and within `duration` seconds, with the speakers numbered as they come."""
    names: dict[str, str] = {}
    turns: list[Turn] = []
    for start, end, label in sorted(found):
        start, end = max(0.0, start, turns[-1].end if turns else 0.0), min(end, duration)
        if start < end:
            turns.append(Turn(start, end, names.setdefault(label, f"SPEAKER_{len(names):02d}")))
    return turns


def load(pipeline: Pipeline) -> Diarizer:
    """ModelError for parts that are not what they should be, and for whatever would run code."""
    try:
        with quiet():
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
    except (ModelError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(f"{pipeline.folder}: no pipeline that can be loaded ({type(error).__name__}: {error})") from error
    return Diarizer(loaded)


def _network(role: str, path: Path) -> Any:
    """The network in a checkpoint of pyannote's, in evaluation mode."""
    import importlib
    import inspect

    import torch
    from pyannote.audio.core.task import Problem, Resolution, Specifications

    try:
        with torch.serialization.safe_globals([Specifications, Problem, Resolution, torch.torch_version.TorchVersion]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        about = checkpoint["pyannote.audio"]
        name = about["architecture"]["class"]
        if name not in _NETWORKS[role]:
            raise ModelError(f"{path}: a network of the class {name!r:.60}, not one of {', '.join(_NETWORKS[role])}")
        kind = getattr(importlib.import_module(_NETWORKS[role][name]), name)
        known = set(inspect.signature(kind.__init__).parameters) - {"self", "task"}
        sizes = {name: value for name, value in checkpoint.get("hyper_parameters", {}).items() if name in known}
        rate = sizes.pop("sample_rate", SAMPLE_RATE_HZ)
        numbers = [v for v in _values(sizes, skip="sample_rate") if isinstance(v, int | float)]
        if rate != SAMPLE_RATE_HZ or not all(0 <= v <= _LARGEST for v in numbers):
            raise ModelError(f"{path}: its sizes are none of a published model")
        network = kind(**sizes)
        network.on_load_checkpoint(checkpoint)
        weights = {name: w for name, w in checkpoint["state_dict"].items() if not name.startswith("loss_func.")}
        network.load_state_dict(weights)
    except (ModelError, MemoryError):
        raise
    except Exception as error:
        said = str(error)
        if isinstance(error, pickle.UnpicklingError):  # torch's, which goes on to say how to be less careful
            said = next((line.strip() for line in said.split("\n") if "Unsupported" in line), "it holds more than data")
        raise ModelError(f"{path}: not a checkpoint that can be read without running code ({said:.300})") from error
    for name, weight in network.named_parameters():
        if not torch.isfinite(weight).all():
            raise ModelError(f"{path}: {name} holds numbers that are not finite")
    return network.eval()


def _config(path: Path) -> dict[str, Any]:
    import yaml

    try:
        if not path.is_file():  # a pipe would block
            raise ModelError(f"{path}: missing; a pipeline of pyannote.audio has one")
        with path.open("rb") as file:
            raw = file.read(_CONFIG_BYTES + 1)
        if len(raw) > _CONFIG_BYTES or b"&" in raw:  # anchors, of which a few lines make gigabytes
            raise ModelError(f"{path}: not the configuration of a pipeline")
        config = yaml.safe_load(raw)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ModelError(f"{path}: not YAML ({error})") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: not the configuration of a pipeline")
    return config


def _values(tree: Mapping[str, Any], skip: str = "") -> Iterable[Any]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _values(value, skip)
        elif name != skip:
            yield value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)
