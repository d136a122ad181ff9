"""train: an MSF-SER checkpoint from a table of vectors and labels, or (`FinetuneSettings`) from a speech encoder and audio.

The checkpoint is a folder: `model.safetensors` and `config.json` (see `model.weights`), `MODEL_CARD.md` for people, `epochs.csv`
with the numbers of every epoch, and `encoder/`, the encoder that learned with it, if one did. While training goes on it holds
`training.safetensors`, the state after the last epoch: the same command goes on from there.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor, nn

from msfser_cli import __version__
from msfser_cli.errors import ResourceError, UsageError
from msfser_cli.model import intervals, weights
from msfser_cli.model.config import DIMENSIONS, STREAMS, MsfSerConfig
from msfser_cli.model.msf_ser import MsfSer, MsfSerOutput
from msfser_cli.model.training import DivergedError, Epoch, Trainer, TrainingPlan
from msfser_cli.profiles.models import ModelFolder, folder_identity
from msfser_cli.settings import FinetuneSettings, TrainSettings, as_dict, fingerprint
from msfser_cli.stages import finetune
from msfser_cli.stages.embed import made_by
from msfser_cli.stages.finetune import Clips, Voice
from msfser_cli.stages.stopping import stop_on_signals
from msfser_cli.stages.training_set import TrainingSet
from msfser_cli.store.atomic import replacing, resources, sync_folder, sync_tree
from msfser_cli.store.lock import held

STATE, EPOCHS, CARD, ENCODER = "training.safetensors", "epochs.csv", "MODEL_CARD.md", "encoder"
_PARTS = (weights.WEIGHTS_NAME, weights.CONFIG_NAME, CARD, EPOCHS, ENCODER)


@dataclass(frozen=True)
class Trained:
    """What became of a training: the folder, the best epoch, how many were run, and whether all had been done before."""

    out: str
    best: Epoch
    epochs: int
    utterances: int
    development_utterances: int
    intervals: intervals.Intervals | None
    encoder: str | None
    """The folder of the encoder that learned with the head; None where none did."""
    unchanged: bool = False


@dataclass(frozen=True)
class _Learner:
    """What learns: the head, the voice where it learns too, and the trainer of both."""

    head: MsfSer
    voice: Voice | None
    trainer: Trainer


def train(
    examples: TrainingSet, settings: TrainSettings, out: Path, each: Callable[[Epoch], None], *, redo: bool = False,
    root: Path | None = None, heard: Callable[[float], None] = lambda seconds: None,
) -> Trained:
    """Fit a model to `examples` and write its checkpoint to the folder `out`; `each` is called after every epoch.

    root: where the recordings are, if not where the table says; heard: called with the seconds of audio as they are encoded.
    The same work goes on where it was interrupted, and is not done again once finished. Raises UsageError where a setting does
    not fit, `out` holds something else, or training diverges; TableError where audio cannot be read; ModelError,
    OutputHeldError, ResourceError and Stopped as a run does.
    """  # fmt: skip
    config = _config(examples, settings)
    backbone = finetune.backbone(examples, settings) if isinstance(settings, FinetuneSettings) else None
    sees = {"settings": as_dict(settings), "data": examples.digest(), "version": __version__}
    work = fingerprint({**sees, "backbone": backbone.identity} if backbone else sees)
    out = _resolved(out)
    with resources(out):
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UsageError(f"{out}: {out.parent} is not a folder; choose another --out") from error
    with held(out), stop_on_signals() as stopping:
        _make_room(out, work, redo=redo)
        if (out / weights.CONFIG_NAME).exists():
            return _known(examples, out)
        learner = _learner(examples, config, settings, backbone, root, heard)
        trainer = learner.trainer
        _restore(trainer, out)

        def after(epoch: Epoch) -> None:
            with stopping.postponed():
                _keep(trainer, out, work)
            each(epoch)

        try:
            trainer.run(examples.train, examples.development, after)
        except DivergedError as error:
            (out / STATE).unlink(missing_ok=True)  # going on from there would diverge again
            raise UsageError(
                f"training diverged in epoch {len(trainer.history) + 1}: {error}; try a smaller --rate than {settings.rate:g}"
            ) from error
        except torch.OutOfMemoryError as error:
            raise ResourceError(f"the GPU's memory is too small for this encoder ({error}); try a low --train-layers") from error
        with stopping.postponed():
            return _finish(learner, examples, settings, out, work)


def _resolved(out: Path) -> Path:
    """The folder that is written, not a link to it: it has one lock, whatever it is called by."""
    try:
        out = out.resolve() if out.is_symlink() or out.name in ("", "..") else out
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{out}: a symbolic link that leads back to itself; choose another --out") from error
    if not out.name:
        raise UsageError(f"{out}: not a folder for a checkpoint; choose another --out")
    return out


def _config(examples: TrainingSet, settings: TrainSettings) -> MsfSerConfig:
    if unknown := [s for s in settings.without if s not in STREAMS]:
        raise UsageError(f"without must be one of {', '.join(STREAMS)}, not {unknown[0]!r}")
    if settings.fusion != "fm-moe" and settings.top_k is not None:
        raise UsageError(f"top_k is for the experts of fm-moe; {settings.fusion} has none")
    streams = tuple(s for s in STREAMS if s not in settings.without)
    if not streams:
        raise UsageError(f"without leaves no stream to learn from; keep one of {', '.join(STREAMS)}")
    heard = isinstance(settings, FinetuneSettings)
    if not heard and not examples.present[examples.train][:, [s in streams for s in STREAMS]].any():
        raise UsageError(f"{examples.table}: no utterance to train on has {' or '.join(streams)}, and there is no other stream")
    embed = examples.lineage.settings.get("embed", {})
    try:
        return MsfSerConfig(
            acoustic_dim=examples.acoustic.shape[1],
            text_dim=examples.texts.shape[2],
            streams=streams,
            dimensions=examples.dimensions,
            fusion=settings.fusion,
            hidden_dim=settings.hidden_dim,
            semantic_dim=settings.hidden_dim,
            expert_dim=max(1, settings.hidden_dim // 2),
            experts=settings.experts,
            top_k=settings.top_k,
            dropout=settings.dropout,
            low=examples.scale.scale.low,
            high=examples.scale.scale.high,
            acoustic_encoder=made_by(embed, "acoustic", streams, examples.lineage.models.get("acoustic")),
            text_encoder=made_by(embed, "text", streams, examples.lineage.models.get("text")),
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def _learner(
    examples: TrainingSet, config: MsfSerConfig, settings: TrainSettings, backbone: ModelFolder | None, root: Path | None,
    heard: Callable[[float], None],
) -> _Learner:
    torch.manual_seed(settings.seed)
    vectors, texts, present = (torch.from_numpy(a) for a in (examples.acoustic, examples.texts, examples.present))
    acoustic: Callable[[Tensor], Tensor] = vectors.__getitem__
    known, voice, rates = examples.train, None, []
    if backbone is not None:
        assert isinstance(settings, FinetuneSettings)
        acoustic = voice = Voice(backbone, Clips(examples, root), settings, heard)
        present = present | torch.tensor([s == "acoustic" for s in STREAMS])
        config = replace(config, acoustic_dim=voice.dimension)
        rates = [(list(voice.encoder.parameters()), settings.encoder_rate)]
        known = np.sort(np.random.default_rng(settings.seed).permutation(known)[: finetune.SAMPLE])
        voice.eval().normalise_by(known)
    head = MsfSer(config)
    with torch.no_grad():
        head.standardise_by(*(of(torch.from_numpy(known)) for of in (acoustic, texts.__getitem__, present.__getitem__)))

    def forward(chosen: Tensor) -> MsfSerOutput:
        return head(acoustic(chosen), texts[chosen], present[chosen])  # type: ignore[no-any-return]

    plan = TrainingPlan(**{f.name: getattr(settings, f.name) for f in fields(TrainingPlan)})
    model = head if voice is None else nn.ModuleDict({"voice": voice, "head": head})
    return _Learner(head, voice, Trainer(model, forward, examples.labels, plan, rates))


def _make_room(out: Path, work: str, *, redo: bool) -> None:
    """A folder that is new, or empty, or holds the beginnings or the end of the same work."""
    with resources(out):
        if out.exists() and not out.is_dir():
            raise UsageError(f"{out}: a file; a checkpoint is a folder: choose another --out")
        there = {path.name for path in out.iterdir()} if out.exists() else set()
        for name in [n for n in there if n.startswith(tuple(f".{ours}.tmp" for ours in (*_PARTS, STATE)))]:
            _remove(out / name)  # left by a run that was killed while it wrote
            there.remove(name)
        if foreign := sorted(there - {*_PARTS, STATE}):
            raise UsageError(f"{out}: holds {foreign[0]!r}, which is no part of a checkpoint; choose another --out")
        if redo:
            for name in sorted(there, key=lambda name: name != weights.CONFIG_NAME):  # it says that all is there
                _remove(out / name)
        elif (begun := _work_of(out)) not in (None, work):
            raise UsageError(f"{out}: holds a training on other data or with other settings; --redo replaces it")
        elif begun is None and there:
            raise UsageError(f"{out}: holds a checkpoint that this command did not make; choose another --out, or --redo")
        out.mkdir(exist_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _work_of(out: Path) -> str | None:
    """The fingerprint of the training in `out`, begun or finished; None where there is none."""
    if (out / weights.CONFIG_NAME).exists():
        work = weights.load_card(out).get("work")
        return work if isinstance(work, str) else None
    with _opened_state(out) as state:
        return None if state is None else str(_about(state)["work"])


def _keep(trainer: Trainer, out: Path, work: str) -> None:
    tensors, about = trainer.state()
    content = serialised({name: t.contiguous() for name, t in tensors.items()}, {"msfser": json.dumps({**about, "work": work})})
    with replacing(out / STATE) as file:
        file.write(content)


@contextlib.contextmanager
def _opened_state(out: Path) -> Iterator[Any]:
    """What `_keep` wrote last, open for reading; None where there is nothing. UsageError when it is damaged."""
    path = out / STATE
    if not path.exists():
        yield None
        return
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: damaged ({' '.join(str(error).split())[:200]}); --redo starts over") from error


def _about(state: Any) -> dict[str, Any]:
    return dict(json.loads(state.metadata()["msfser"]))


def _restore(trainer: Trainer, out: Path) -> None:
    with _opened_state(out) as state:
        if state is not None:
            trainer.restore({name: state.get_tensor(name) for name in state.keys()}, _about(state))  # noqa: SIM118


def _finish(learner: _Learner, examples: TrainingSet, settings: TrainSettings, out: Path, work: str) -> Trained:
    """The checkpoint; its config.json last, which says that all is there."""
    trainer, head = learner.trainer, learner.head
    reach = _calibrated(trainer, examples, settings)
    if learner.voice is not None:
        encoder = _save_encoder(learner.voice, out)
        head.config = replace(head.config, acoustic_encoder=f"{finetune.BACKEND}:{folder_identity(encoder)}")
    result = Trained(str(out), trainer.best, len(trainer.history), len(examples.train), len(examples.development), reach,
                     _encoder_of(out))
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, [f.name for f in fields(Epoch)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(e.to_json() for e in trainer.history)
    card = {"work": work, "made by": f"msfser train {__version__}", "settings": as_dict(settings),
            "result": result.best.to_json(), "epochs": result.epochs}
    _write(out / EPOCHS, table.getvalue().encode())
    _write(out / CARD, _card(examples, learner, settings, result).encode())
    for name, file in weights.content(head, intervals=reach, card=card).items():
        _write(out / name, file)
    (out / STATE).unlink(missing_ok=True)  # all of the checkpoint is durable by now
    return result


def _save_encoder(voice: Voice, out: Path) -> Path:
    folder, temporary = out / ENCODER, out / f".{ENCODER}.tmp"
    with resources(folder):
        for left in (folder, temporary):  # by a run that was killed at this place
            if left.exists():
                _remove(left)
        temporary.mkdir()
        voice.save(temporary)
        sync_tree(temporary)
        temporary.rename(folder)
        sync_folder(out)
    return folder


def _encoder_of(out: Path) -> str | None:
    return str(out / ENCODER) if (out / ENCODER).is_dir() else None


def _calibrated(trainer: Trainer, examples: TrainingSet, settings: TrainSettings) -> intervals.Intervals | None:
    """Intervals from the development set; None where it is too small for any."""
    chosen = examples.development
    try:
        return intervals.calibrate(
            trainer.scores(chosen), examples.labels[chosen], examples.clusters[chosen].tolist(), settings.level
        )
    except ValueError:
        return None


def _known(examples: TrainingSet, out: Path) -> Trained:
    """What an earlier run of the same work left."""
    weights.load(out)  # it must be fit for use
    card = weights.load_card(out)
    try:
        best, epochs = Epoch.from_json(card["result"]), int(card["epochs"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{out / weights.CONFIG_NAME}: its card is not what train wrote; --redo starts over") from error
    return Trained(str(out), best, epochs, len(examples.train), len(examples.development), weights.load_intervals(out),
                   _encoder_of(out), unchanged=True)


_CARD = """\
# An MSF-SER head

Made by `msfser train` {version} for the vectors of `{acoustic}` (voice) and `{text}` (texts): {parameters:,} parameters, fusion
`{fusion}`, streams {streams}. It scores {dimensions} on {low:g} .. {high:g}.

## Trained on
- vectors: `{table}`{finetuned}
- labels: `{labels}` ({format}, scale {scale})
- {train} utterances of {train_speakers}; judged on {development} utterances of {development_speakers}
- seed {seed}; epoch {best} of {epochs}, the best by the mean CCC of the second; settings in `config.json`, every epoch in
  `{epochs_file}`

## Measured on the utterances it was judged on
| dimension | CCC | {level:.0%} interval reaches below, above the score |
|---|---|---|
{rows}

The epoch was chosen on these utterances. So the CCC is a little too high, and the intervals are a little too narrow. The number
to publish is that of `msfser evaluate` on other speakers.
{intervals}"""

_INTERVALS = """\
The intervals hold {level:.0%} of the ratings of such speakers, each counting alike, if they come from ten of them or more. From
fewer they hold less. For other speech, calibrate them on ratings of your own (`msfser predict --calibrate`).
"""

_FINETUNED = """
- voices: the audio of the utterances, by the encoder in `{encoder}/`, which learned with the head. It was `{start}`, whose
  licence still holds"""


def _card(examples: TrainingSet, learner: _Learner, settings: TrainSettings, result: Trained) -> str:
    config, voice = learner.head.config, learner.voice

    def reach(d: int) -> str:
        known = result.intervals is not None and result.intervals.above[d] is not None
        return f"{result.intervals.below[d]:.3f}, {result.intervals.above[d]:.3f}" if known else "too few ratings"  # type: ignore

    return _CARD.format(
        version=__version__, acoustic=config.acoustic_encoder, text=config.text_encoder, fusion=config.fusion,
        parameters=sum(p.numel() for p in learner.head.parameters()), streams=", ".join(config.streams),
        dimensions=", ".join(config.dimensions), low=config.low, high=config.high, table=examples.table,
        labels=examples.labels_path, format=examples.label_format, scale=examples.scale.scale,
        train=result.utterances, train_speakers=examples.who(examples.train),
        development=result.development_utterances, development_speakers=examples.who(examples.development),
        seed=settings.seed, epochs=result.epochs, best=result.best.epoch, epochs_file=EPOCHS, level=settings.level,
        intervals="" if result.intervals is None else _INTERVALS.format(level=settings.level),
        finetuned="" if voice is None else _FINETUNED.format(encoder=ENCODER, start=voice.start.identity),
        rows="\n".join(f"| {d} | {getattr(result.best, d):.3f} | {reach(DIMENSIONS.index(d))} |" for d in config.dimensions),
    )  # fmt: skip


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)
