"""train: makes an MSF-SER checkpoint from a table of vectors and labels. With `FinetuneSettings`, it trains a speech encoder too.

The checkpoint is a folder with `model.safetensors` and `config.json` (see `model.weights`), `MODEL_CARD.md` for people,
`epochs.csv` with the results of every epoch, and, after fine-tuning, `encoder/`. During training the folder also has
`training.safetensors`, the state after the last epoch. If training is interrupted, the same command continues from this state.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import math
import shutil
from collections import Counter
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
from msfser_cli.errors import ResourceError, UsageError, is_shortage
from msfser_cli.model import weights
from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.msf_ser import MsfSer, MsfSerOutput
from msfser_cli.model.plain_fusions import dim_like_fm_moe
from msfser_cli.model_store.models import ModelFolder, folder_identity
from msfser_cli.runs.stopping import stop_on_signals
from msfser_cli.schemas import DIMENSIONS, STREAMS
from msfser_cli.settings import FinetuneSettings, TrainSettings, as_dict, fingerprint
from msfser_cli.stages.embed import made_by
from msfser_cli.stages.predict import FEWEST
from msfser_cli.statistics import intervals
from msfser_cli.store.atomic import replacing, resources, sync_folder, sync_tree
from msfser_cli.store.lock import held
from msfser_cli.store.objects import Location
from msfser_cli.training import finetune
from msfser_cli.training.finetune import Clips, Voice
from msfser_cli.training.fit import DivergedError, Epoch, Trainer, TrainingPlan
from msfser_cli.training.references import References
from msfser_cli.training.training_set import TrainingSet

logger = logging.getLogger("msfser")

REFERENCE_DIM = 32
"""The hidden size of the weights of a reference."""

STATE, EPOCHS, CARD, ENCODER = "training.safetensors", "epochs.csv", "MODEL_CARD.md", "encoder"
_PARTS = (weights.WEIGHTS_NAME, weights.CONFIG_NAME, CARD, EPOCHS, ENCODER)


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    out: the folder. best: the chosen epoch. epochs: the number of epochs. unchanged: an earlier run had already finished it.
    """

    out: str
    best: Epoch
    epochs: int
    utterances: int
    development_utterances: int
    intervals: intervals.Intervals | None
    ccc: tuple[float | None, ...] | None
    """CCC for each of `DIMENSIONS`, without a reference, on the utterances that give the intervals.

    None if these chose the epoch too, and there is no `relative_ccc`: then it is that of the `best` epoch.
    """
    relative_ccc: tuple[float | None, ...] | None
    """The same with references of all utterances of each speaker; None if the head or every speaker has no reference."""
    encoder: str | None
    """The folder of the fine-tuned encoder; None without fine-tuning."""
    unchanged: bool = False


@dataclass(frozen=True)
class _Learner:
    """The head, the voice encoder (None without fine-tuning), and the trainer of both."""

    head: MsfSer
    voice: Voice | None
    trainer: Trainer


def train(
    examples: TrainingSet, settings: TrainSettings, out: Path, each: Callable[[Epoch], None], *, redo: bool = False,
    root: Location | None = None, on_audio: Callable[[float], None] = lambda seconds: None,
) -> Trained:
    """Fit a model to `examples` and write its checkpoint to the folder `out`.

    each: called after every epoch. on_audio: called with the seconds of audio that were just encoded. root: the folder of the
    recordings, if the corpus has moved. An interrupted training continues. A finished one is not repeated.

    Raises UsageError if a setting does not fit, `out` has something else, or training diverges. Raises TableError if audio cannot
    be read, ModelError for a bad encoder, OutputHeldError if another run writes to `out`, ResourceError if disk or memory runs
    out, and Stopped at a signal.
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
            return _finished(examples, out)
        if settings.relative and not _is_compared(examples):
            logger.warning("%s. So the CCC with a reference is unknown", _NOT_COMPARED)
        learner = _learner(examples, config, settings, backbone, root, on_audio)
        trainer = learner.trainer
        _restore(trainer, out)

        def after(epoch: Epoch) -> None:
            with stopping.postponed():
                _keep(trainer, out, work)
            each(epoch)

        try:
            trainer.run(examples.train, examples.choosing, after)
        except DivergedError as error:
            (out / STATE).unlink(missing_ok=True)  # training would diverge again from this state
            raise UsageError(
                f"training diverged in epoch {len(trainer.history) + 1}: {error}; use a smaller --rate than {settings.rate:g}"
            ) from error
        except (MemoryError, RuntimeError) as error:
            if not is_shortage(error):
                raise
            raise ResourceError(f"memory is too small for this training ({error}); use a low --train-layers") from error
        with stopping.postponed():
            return _finish(learner, examples, settings, out, work)


def _resolved(out: Path) -> Path:
    """The folder itself instead of a link to it, so that it always has the same lock."""
    try:
        out = out.resolve() if out.is_symlink() or out.name in ("", "..") else out
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{out}: a symbolic link that leads to itself; choose another --out") from error
    if not out.name:
        raise UsageError(f"{out}: not a folder for a checkpoint; choose another --out")
    return out


def _config(examples: TrainingSet, settings: TrainSettings) -> MsfSerConfig:
    if unknown := [s for s in settings.without if s not in STREAMS]:
        raise UsageError(f"without must be one of {', '.join(STREAMS)}, not {unknown[0]!r}")
    if settings.fusion != "fm-moe" and settings.top_k is not None:
        raise UsageError(f"--top-k needs --fusion fm-moe, because {settings.fusion} has no experts; leave it out")
    streams = tuple(s for s in STREAMS if s not in settings.without)
    if not streams:
        raise UsageError(f"--without leaves out every stream; keep at least one of {', '.join(STREAMS)}")
    finetunes = isinstance(settings, FinetuneSettings)
    if not finetunes and not examples.present[examples.train][:, [s in streams for s in STREAMS]].any():
        raise UsageError(f"{examples.table}: the training utterances have no {' or '.join(streams)}; keep another stream as well")
    if settings.relative:
        _require_references(examples)
    embed = examples.lineage.settings.get("embed", {})
    try:
        config = MsfSerConfig(
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
            reference_dim=REFERENCE_DIM if settings.relative else None,
            acoustic_encoder=made_by(embed, "acoustic", streams, examples.lineage.models.get("acoustic")),
            text_encoder=made_by(embed, "text", streams, examples.lineage.models.get("text")),
        )
        return config if config.fusion == "fm-moe" else replace(config, fusion_dim=dim_like_fm_moe(config))
    except ValueError as error:
        raise UsageError(str(error)) from error


def _require_references(examples: TrainingSet) -> None:
    """UsageError unless two speakers of the training set have enough voices for a reference.

    The head learns from differences between speakers, and a single speaker differs from nobody.
    """
    voiced = examples.train[examples.present[examples.train, 0]]
    enough = sum(count >= FEWEST for count in Counter(examples.clusters[voiced]).values())
    if enough < 2:
        raise UsageError(f"{examples.table}: {'only one' if enough else 'no'} speaker has {FEWEST} training utterances with a "
                         "voice, and --relative learns from differences between at least two such speakers; leave it out, or "
                         "give the speakers in a column speaker of the labels")


def _is_compared(examples: TrainingSet) -> bool:
    """Whether a voice of `examples.calibrating` has a reference."""
    others = np.setdiff1d(np.flatnonzero(examples.present[:, 0]), examples.train)
    counts = Counter(examples.clusters[others])
    return any(counts[examples.clusters[i]] >= FEWEST for i in np.intersect1d(examples.calibrating, others))


def _learner(
    examples: TrainingSet, config: MsfSerConfig, settings: TrainSettings, backbone: ModelFolder | None, root: Location | None,
    on_audio: Callable[[float], None],
) -> _Learner:
    torch.manual_seed(settings.seed)
    vectors, texts, present = (torch.from_numpy(a) for a in (examples.acoustic, examples.texts, examples.present))
    acoustic: Callable[[Tensor], Tensor] = vectors.__getitem__
    sample, voice, rates = examples.train, None, []
    if backbone is not None:
        assert isinstance(settings, FinetuneSettings)
        acoustic = voice = Voice(backbone, Clips(examples, root), settings, on_audio)
        present = present | torch.tensor([s == "acoustic" for s in STREAMS])
        config = replace(config, acoustic_dim=voice.dimension)
        rates = [(list(voice.encoder.parameters()), settings.encoder_rate)]
        sample = np.sort(np.random.default_rng(settings.seed).permutation(sample)[: finetune.SAMPLE])
        voice.eval().normalise_by(sample)
    head = MsfSer(config)
    with torch.no_grad():
        head.standardise_by(*(get(torch.from_numpy(sample)) for get in (acoustic, texts.__getitem__, present.__getitem__)))

    def alone(chosen: Tensor) -> MsfSerOutput:
        return head(acoustic(chosen), texts[chosen], present[chosen])  # type: ignore[no-any-return]

    forwards: list[Callable[[Tensor], MsfSerOutput]] = [alone]
    if settings.relative:
        references = _references(examples)

        def relative(chosen: Tensor) -> MsfSerOutput:
            drawn = references.drawn(chosen) if head.training else references.complete(chosen)
            return references.scored(head, acoustic(chosen), texts[chosen], present[chosen], drawn)

        forwards.append(relative)
    plan = TrainingPlan(**{f.name: getattr(settings, f.name) for f in fields(TrainingPlan)})
    model = head if voice is None else nn.ModuleDict({"voice": voice, "head": head})
    return _Learner(head, voice, Trainer(model, forwards, examples.labels, plan, rates))


def _references(examples: TrainingSet) -> References:
    """References within each speaker's part of the training or the development set."""
    split = np.isin(np.arange(len(examples.labels)), examples.train)
    speakers = [f"{is_train} {cluster}" for is_train, cluster in zip(split, examples.clusters, strict=True)]
    return References(examples.acoustic, examples.present[:, 0], examples.labels, speakers, examples.train)


def _make_room(out: Path, work: str, *, redo: bool) -> None:
    """Make `out` a folder that is empty, or has this training, begun or finished. UsageError if it has something else."""
    with resources(out):
        if out.exists() and not out.is_dir():
            raise UsageError(f"{out}: a file, but a checkpoint is a folder; choose another --out")
        names = {path.name for path in out.iterdir()} if out.exists() else set()
        for name in [n for n in names if n.startswith(tuple(f".{part}.tmp" for part in (*_PARTS, STATE)))]:
            _remove(out / name)  # a temporary file of a run that was killed
            names.remove(name)
        if foreign := sorted(names - {*_PARTS, STATE}):
            raise UsageError(f"{out}: has {foreign[0]!r}, which is not part of a checkpoint; choose another --out")
        if redo:
            for name in sorted(names, key=lambda name: name != weights.CONFIG_NAME):  # first the file that makes it a checkpoint
                _remove(out / name)
        elif (begun := _work_of(out)) not in (None, work):
            raise UsageError(
                f"{out}: has a training on other data or with other settings; choose another --out, or replace it with --redo"
            )
        elif begun is None and names:
            raise UsageError(
                f"{out}: has a checkpoint that this command did not make; choose another --out, or replace it with --redo"
            )
        out.mkdir(exist_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _work_of(out: Path) -> str | None:
    """The fingerprint of the training in `out`, begun or finished; None if there is no training."""
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
    """The state that `_keep` wrote, open for reading; None if there is no state. UsageError if it is damaged."""
    path = out / STATE
    if not path.exists():
        yield None
        return
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: damaged ({' '.join(str(error).split())[:200]}); start over with --redo") from error


def _about(state: Any) -> dict[str, Any]:
    return dict(json.loads(state.metadata()["msfser"]))


def _restore(trainer: Trainer, out: Path) -> None:
    with _opened_state(out) as state:
        if state is not None:
            trainer.restore({name: state.get_tensor(name) for name in state.keys()}, _about(state))  # noqa: SIM118


def _finish(learner: _Learner, examples: TrainingSet, settings: TrainSettings, out: Path, work: str) -> Trained:
    """Write the checkpoint. config.json comes last, because it makes the folder a checkpoint."""
    trainer, head = learner.trainer, learner.head
    scores = trainer.scores(examples.calibrating)
    reach = _calibrate(scores, examples, settings)
    ways = [tuple(None if math.isnan(x) else x for x in way) for way in trainer.ccc(examples.calibrating, scores).tolist()]
    relative = ways[1] if settings.relative and _is_compared(examples) else None
    ccc = ways[0] if examples.is_split or relative is not None else None
    if learner.voice is not None:
        encoder = _save_encoder(learner.voice, out)
        head.config = replace(head.config, acoustic_encoder=f"{finetune.BACKEND}:{folder_identity(encoder)}")
    result = Trained(str(out), trainer.best, len(trainer.history), len(examples.train), len(examples.development), reach, ccc,
                     relative, _encoder_of(out))
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, [f.name for f in fields(Epoch)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(e.to_json() for e in trainer.history)
    card = {"work": work, "made by": f"msfser train {__version__}", "settings": as_dict(settings),
            "result": result.best.to_json(), "epochs": result.epochs, "ccc": ccc, "relative_ccc": relative}
    _write(out / EPOCHS, table.getvalue().encode())
    _write(out / CARD, _card(examples, learner, settings, result).encode())
    for name, file in weights.content(head, intervals=reach, card=card).items():
        _write(out / name, file)
    (out / STATE).unlink(missing_ok=True)  # the checkpoint is durable now
    return result


def _save_encoder(voice: Voice, out: Path) -> Path:
    folder, temporary = out / ENCODER, out / f".{ENCODER}.tmp"
    with resources(folder):
        for leftover in (folder, temporary):  # of a run that was killed here
            if leftover.exists():
                _remove(leftover)
        temporary.mkdir()
        voice.save(temporary)
        sync_tree(temporary)
        temporary.rename(folder)
        sync_folder(out)
    return folder


def _encoder_of(out: Path) -> str | None:
    return str(out / ENCODER) if (out / ENCODER).is_dir() else None


def _calibrate(scores: np.ndarray, examples: TrainingSet, settings: TrainSettings) -> intervals.Intervals | None:
    """Prediction intervals from the scores of `examples.calibrating`, [W, n, 3]; None if they are too few.

    The same intervals serve scores with and without a reference.
    """
    chosen = examples.calibrating
    try:
        return intervals.calibrate(scores, examples.labels[chosen], examples.clusters[chosen].tolist(), settings.level)
    except ValueError:
        return None


def _finished(examples: TrainingSet, out: Path) -> Trained:
    """The result of an earlier run of the same training. UsageError or ModelError if its files are damaged."""
    weights.load(out)  # raises ModelError if the weights are damaged
    card = weights.load_card(out)
    try:
        best, epochs = Epoch.from_json(card["result"]), int(card["epochs"])
        ccc, relative = (
            None if of_way is None else tuple(None if x is None else float(x) for x in of_way)
            for of_way in (card["ccc"], card["relative_ccc"])
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{out / weights.CONFIG_NAME}: its card is damaged; start over with --redo") from error
    return Trained(str(out), best, epochs, len(examples.train), len(examples.development), weights.load_intervals(out), ccc,
                   relative, _encoder_of(out), unchanged=True)


_CARD = """\
# An MSF-SER head

`msfser train` {version} made this head for the vectors of `{acoustic}` (voice) and `{text}` (texts). It has {parameters:,}
parameters, the fusion `{fusion}`, and the streams {streams}. It scores {dimensions} from {low:g} to {high:g}.

## Training data
- vectors: `{table}`{finetuned}
- labels: `{labels}` ({format}, scale {scale})
- training set: {train} utterances of {train_speakers}
- development set: {development} utterances of {development_speakers}
- seed {seed}; epoch {best} of {epochs}, which has the highest mean CCC on {choosing}. The settings are in `config.json`, and the
  results of every epoch in `{epochs_file}`.

## Results on {calibrating}
| dimension | {ways} | {level:.0%} interval: distance below, above the score |
|---|{rule}---|
{rows}

{caution}
{intervals}"""

_NOT_COMPARED = f"The speakers who give the development CCC have fewer than {FEWEST} utterances with a voice each"

_WHOLE = """\
The epoch was chosen on these utterances, because they are too few to be split. So the CCC is a little too high{narrow}. Publish
the results of `msfser evaluate` on other speakers instead."""

_NARROW = ", and the\nintervals are a little too narrow"

_HALF = """\
The epoch was chosen on the other {choosing} utterances of the development set, of {who}. If you choose between trainings by this
CCC, publish the results of `msfser evaluate` on other speakers instead."""

_IN_BOTH = """
{count} speakers of the development set are in the training set too. For new speakers, the CCC is too high{narrow}."""

_NARROW_TOO = ", and the intervals are\ntoo narrow"

_INTERVALS = """\
If they come from ten speakers or more, the intervals contain {level:.0%} of the ratings of such speakers, where each speaker
counts the same. From fewer speakers, they contain less. For other speech, calibrate them on your own ratings
(`msfser predict --calibrate`).
"""

_FINETUNED = """
- voices: the audio of the utterances, encoded by the encoder in `{encoder}/`. It was `{start}`, and was trained along with the
  head. The licence of the original encoder still applies"""


def _card(examples: TrainingSet, learner: _Learner, settings: TrainSettings, result: Trained) -> str:
    config, voice = learner.head.config, learner.voice

    def reach(d: int) -> str:
        calibrated = result.intervals is not None and result.intervals.above[d] is not None
        return f"{result.intervals.below[d]:.3f}, {result.intervals.above[d]:.3f}" if calibrated else "too few ratings"  # type: ignore

    ways = {"CCC": result.ccc, "CCC with reference": result.relative_ccc} if result.relative_ccc else {"CCC": result.ccc}
    ccc = {name: dict(zip(DIMENSIONS, of_way, strict=True)) if of_way else result.best.to_json() for name, of_way in ways.items()}
    half = _HALF.format(choosing=len(examples.choosing), who=examples.who(examples.choosing))
    made = result.intervals is not None
    caution = half if examples.is_split else _WHOLE.format(narrow=_NARROW if made else "")
    if examples.in_both:
        caution += _IN_BOTH.format(count=examples.in_both, narrow=_NARROW_TOO if made else "")
    if settings.relative and result.relative_ccc is None:
        caution += f"\n{_NOT_COMPARED}.\nSo the CCC with a reference is unknown."
    return _CARD.format(
        version=__version__, acoustic=config.acoustic_encoder, text=config.text_encoder, fusion=config.fusion,
        parameters=sum(p.numel() for p in learner.head.parameters()), streams=", ".join(config.streams),
        dimensions=", ".join(config.dimensions), low=config.low, high=config.high, table=examples.table,
        labels=examples.labels_path, format=examples.label_format, scale=examples.scale.scale,
        train=result.utterances, train_speakers=examples.who(examples.train),
        development=result.development_utterances, development_speakers=examples.who(examples.development),
        seed=settings.seed, epochs=result.epochs, best=result.best.epoch, epochs_file=EPOCHS, level=settings.level,
        choosing="one half of the development set" if examples.is_split else "the development set",
        calibrating=f"{len(examples.calibrating)} development utterances of {examples.who(examples.calibrating)}",
        caution=caution,
        intervals="" if result.intervals is None else _INTERVALS.format(level=settings.level),
        finetuned="" if voice is None else _FINETUNED.format(encoder=ENCODER, start=voice.start.identity),
        ways=" | ".join(ways), rule="---|" * len(ways),
        rows="\n".join(
            f"| {d} | {' | '.join(f'{way[d]:.3f}' for way in ccc.values())} | {reach(DIMENSIONS.index(d))} |"
            for d in config.dimensions
        ),
    )  # fmt: skip


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)
