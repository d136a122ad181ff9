"""train: an MSF-SER checkpoint from a table of vectors and labels.

The checkpoint is a folder: `model.safetensors` and `config.json` (see `model.weights`), `MODEL_CARD.md` for people, and
`epochs.csv` with the numbers of every epoch. While training goes on it holds `training.safetensors`, the state after the last
epoch: the same command goes on from there.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor

from msfser_cli import __version__
from msfser_cli.errors import UsageError
from msfser_cli.model import intervals, weights
from msfser_cli.model.config import DIMENSIONS, STREAMS, MsfSerConfig
from msfser_cli.model.msf_ser import MsfSer, MsfSerOutput
from msfser_cli.model.training import DivergedError, Epoch, Trainer, TrainingPlan
from msfser_cli.settings import TrainSettings, as_dict, fingerprint
from msfser_cli.stages.stopping import stop_on_signals
from msfser_cli.stages.training_set import TrainingSet
from msfser_cli.store.atomic import replacing, resources, sync_folder
from msfser_cli.store.lock import held

STATE, EPOCHS, CARD = "training.safetensors", "epochs.csv", "MODEL_CARD.md"
_FILES = (weights.WEIGHTS_NAME, weights.CONFIG_NAME, CARD, EPOCHS)


@dataclass(frozen=True)
class Trained:
    """What became of a training: the folder, the best epoch, how many were run, and whether all had been done before."""

    out: str
    best: Epoch
    epochs: int
    utterances: int
    development_utterances: int
    intervals: intervals.Intervals | None
    unchanged: bool = False


def train(
    examples: TrainingSet, settings: TrainSettings, out: Path, each: Callable[[Epoch], None], *, redo: bool = False
) -> Trained:
    """Fit a model to `examples` and write its checkpoint to the folder `out`; `each` is called after every epoch.

    The same work goes on where it was interrupted, and is not done again once finished. Raises UsageError where a setting does
    not fit, `out` holds something else, or training diverges; OutputHeldError, ResourceError and Stopped as a run does.
    """
    config = _config(examples, settings)
    work = fingerprint({"settings": as_dict(settings), "data": examples.digest(), "version": __version__})
    out = out.resolve() if out.name in ("", "..") else out
    with resources(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with held(out), stop_on_signals() as stopping:
        _make_room(out, work, redo=redo)
        if (out / weights.CONFIG_NAME).exists():
            return _known(examples, out)
        trainer = _trainer(examples, config, settings)
        _restore(trainer, out, work)

        def after(epoch: Epoch) -> None:
            with stopping.postponed():
                _keep(trainer, out, work)
            each(epoch)

        try:
            trainer.run(examples.train, examples.development, after)
        except DivergedError as error:
            raise UsageError(
                f"training diverged after {len(trainer.history)} epochs: {error}; try a smaller --rate than {settings.rate:g}"
            ) from error
        with stopping.postponed():
            return _finish(trainer, examples, config, settings, out, work)


def _config(examples: TrainingSet, settings: TrainSettings) -> MsfSerConfig:
    if unknown := [s for s in settings.without if s not in STREAMS]:
        raise UsageError(f"without must be one of {', '.join(STREAMS)}, not {unknown[0]!r}")
    if settings.fusion != "fm-moe" and settings.top_k is not None:
        raise UsageError(f"top_k is for the experts of fm-moe; {settings.fusion} has none")
    embed = examples.lineage.settings.get("embed", {})

    def encoder(role: str) -> str:
        return f"{embed[f'{role}_encoder']}:{Path(embed[f'{role}_model']).name}" if f"{role}_encoder" in embed else ""

    try:
        return MsfSerConfig(
            acoustic_dim=examples.acoustic.shape[1],
            text_dim=examples.texts.shape[2],
            streams=tuple(s for s in STREAMS if s not in settings.without),
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
            acoustic_encoder=encoder("acoustic"),
            text_encoder=encoder("text"),
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def _trainer(examples: TrainingSet, config: MsfSerConfig, settings: TrainSettings) -> Trainer:
    torch.manual_seed(settings.seed)
    model = MsfSer(config)
    acoustic, texts, present = (torch.from_numpy(a) for a in (examples.acoustic, examples.texts, examples.present))
    model.standardise_by(*(t[torch.from_numpy(examples.train)] for t in (acoustic, texts, present)))

    def forward(chosen: Tensor) -> MsfSerOutput:
        return model(acoustic[chosen], texts[chosen], present[chosen])  # type: ignore[no-any-return]

    plan = TrainingPlan(**{f.name: getattr(settings, f.name) for f in fields(TrainingPlan)})
    return Trainer(model, forward, examples.labels, plan)


def _make_room(out: Path, work: str, *, redo: bool) -> None:
    """A folder that is new, or empty, or holds the beginnings or the end of the same work."""
    with resources(out):
        if out.exists() and not out.is_dir():
            raise UsageError(f"{out}: a file; a checkpoint is a folder: choose another --out")
        there = {path.name for path in out.iterdir()} if out.exists() else set()
        for name in [n for n in there if n.startswith(tuple(f".{ours}.tmp" for ours in (*_FILES, STATE)))]:
            (out / name).unlink()  # left by a run that was killed while it wrote
            there.remove(name)
        if foreign := sorted(there - {*_FILES, STATE}):
            raise UsageError(f"{out}: holds {foreign[0]!r}, which is no part of a checkpoint; choose another --out")
        if redo:
            for name in there:
                (out / name).unlink()
        elif (begun := _work_of(out)) not in (None, work):
            raise UsageError(f"{out}: holds a training on other data or with other settings; --redo replaces it")
        elif begun is None and there:
            raise UsageError(f"{out}: holds a checkpoint that this command did not make; choose another --out, or --redo")
        out.mkdir(exist_ok=True)


def _work_of(out: Path) -> str | None:
    """The fingerprint of the training in `out`, begun or finished; None where there is none."""
    if (out / weights.CONFIG_NAME).exists():
        work = weights.load_card(out).get("work")
        return work if isinstance(work, str) else None
    state = _state(out)
    return None if state is None else str(state[1]["work"])


def _keep(trainer: Trainer, out: Path, work: str) -> None:
    tensors, about = trainer.state()
    content = serialised({name: t.contiguous() for name, t in tensors.items()}, {"msfser": json.dumps({**about, "work": work})})
    with replacing(out / STATE) as file:
        file.write(content)


def _state(out: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What `_keep` wrote last. UsageError when it is damaged."""
    path = out / STATE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["msfser"])  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: damaged ({error}); --redo starts over") from error


def _restore(trainer: Trainer, out: Path, work: str) -> None:
    if (state := _state(out)) is not None:
        trainer.restore(*state)


def _finish(
    trainer: Trainer, examples: TrainingSet, config: MsfSerConfig, settings: TrainSettings, out: Path, work: str
) -> Trained:
    """The checkpoint; its config.json last, which says that all is there."""
    model = trainer.model
    assert isinstance(model, MsfSer)
    reach = _calibrated(trainer, examples, settings)
    result = Trained(str(out), trainer.best, len(trainer.history), len(examples.train), len(examples.development), reach)
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, [f.name for f in fields(Epoch)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v != v else v for k, v in asdict(e).items()} for e in trainer.history)
    card = {"work": work, "made by": f"msfser train {__version__}", "settings": as_dict(settings),
            "result": {k: None if v != v else v for k, v in asdict(result.best).items()}, "epochs": result.epochs}
    _write(out / EPOCHS, table.getvalue())
    _write(out / CARD, _card(examples, config, settings, result))
    weights.save(out, model, intervals=reach, card=card)
    sync_folder(out)
    (out / STATE).unlink(missing_ok=True)
    return result


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
    card = weights.load_card(out)
    numbers: dict[str, Any] = {k: float("nan") if v is None else v for k, v in card["result"].items()}
    best = Epoch(**numbers)
    return Trained(str(out), best, card["epochs"], len(examples.train), len(examples.development), weights.load_intervals(out),
                   unchanged=True)


_CARD = """\
# An MSF-SER head

Made by `msfser train` {version} for the vectors of `{acoustic}` (voice) and `{text}` (texts): {parameters:,} parameters, fusion
`{fusion}`, streams {streams}. It scores {dimensions} on {low:g} .. {high:g}.

## Trained on
- vectors: `{table}`
- labels: `{labels}` ({format}, scale {scale})
- {train} utterances of {train_speakers} speakers; judged on {development} utterances of {development_speakers} speakers
- seed {seed}; epoch {best} of {epochs}, the best by the mean CCC of the second; settings in `config.json`, every epoch in
  `{epochs_file}`

## Measured on the utterances it was judged on
| dimension | CCC | {level:.0%} interval reaches below, above the score |
|---|---|---|
{rows}

The epoch was chosen on these utterances, so the CCC flatters a little: the number to publish is `msfser evaluate` on others. The
intervals hold {level:.0%} of the ratings of such speakers, each counting alike; other speech needs its own (`msfser predict
--calibrate`).
"""


def _card(examples: TrainingSet, config: MsfSerConfig, settings: TrainSettings, result: Trained) -> str:
    def reach(d: int) -> str:
        known = result.intervals is not None and result.intervals.above[d] is not None
        return f"{result.intervals.below[d]:.3f}, {result.intervals.above[d]:.3f}" if known else "too few ratings"  # type: ignore

    clusters = examples.clusters
    return _CARD.format(
        version=__version__, acoustic=config.acoustic_encoder, text=config.text_encoder, fusion=config.fusion,
        parameters=sum(p.numel() for p in MsfSer(config).parameters()), streams=", ".join(config.streams),
        dimensions=", ".join(config.dimensions), low=config.low, high=config.high, table=examples.table,
        labels=examples.labels_path, format=examples.label_format, scale=examples.scale.scale,
        train=result.utterances, train_speakers=len(set(clusters[examples.train])),
        development=result.development_utterances, development_speakers=len(set(clusters[examples.development])),
        seed=settings.seed, epochs=result.epochs, best=result.best.epoch, epochs_file=EPOCHS, level=settings.level,
        rows="\n".join(f"| {d} | {getattr(result.best, d):.3f} | {reach(DIMENSIONS.index(d))} |" for d in config.dimensions),
    )  # fmt: skip


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())
