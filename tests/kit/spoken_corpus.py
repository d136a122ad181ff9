"""A few recordings of buzzes whose pitch, noise and tremolo are their labels, with a table of `describe`: for fine-tuning."""

from __future__ import annotations

import hashlib
import wave
from pathlib import Path
from typing import Any

import numpy as np

from msfser_cli.schemas import RECORDINGS, columns_through, names
from msfser_cli.store import tables
from msfser_cli.store.ledger import ledger_path
from msfser_cli.store.lineage import Lineage

RATE = 16_000
GAP = 0.25


def write(folder: Path, speakers: int = 6, utterances: int = 4, seed: int = 0) -> tuple[Path, Path]:
    """One recording a speaker. Returns the table and the labels: the last speaker's are Development, the others' Train."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    lineage = Lineage(stage="describe", tool_version="0", fingerprint="0", corpus_root=str(folder))
    rows: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    labels = ["utterance_id,valence,arousal,dominance,speaker,split"]
    for speaker in range(speakers):
        name, now, pieces = f"s{speaker}.wav", 0.0, []
        for i in range(utterances):
            valence, arousal, dominance = rng.uniform(0, 1, 3)
            seconds, pitch, tremolo = rng.uniform(0.5, 1.5), 100 + 200 * arousal, 2 + 10 * dominance
            clip = buzz(seconds, pitch=pitch, noise=valence, tremolo=tremolo, seed=len(rows))
            row: dict[str, Any] = dict.fromkeys(c.name for c in columns_through("describe"))
            row |= {"recording_id": name, "utterance_id": f"{name}#{i:04d}", "start": now, "end": now + len(clip) / RATE}
            row |= {"language": "en", "text": "so it is", "words": [], "emphasis": [], "emphasis_cues": [], "emphasis_spans": []}
            rows.append(row)
            split = "Development" if speaker == speakers - 1 else "Train"
            labels.append(f"{row['utterance_id']},{valence:.4f},{arousal:.4f},{dominance:.4f},s{speaker},{split}")
            pieces += [clip, np.zeros(round(GAP * RATE))]
            now = row["end"] + GAP
        with wave.open(str(folder / name), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes((np.concatenate(pieces) * 32767).astype("<i2").tobytes())
        content = (folder / name).read_bytes()
        line = dict.fromkeys(names(RECORDINGS)) | {"recording_id": name, "status": "done", "size_bytes": len(content)}
        line |= {"sha256": hashlib.sha256(content).hexdigest(), "duration": now, "utterances": utterances, "seconds": 0.0}
        lines.append(line | {"input_key": name})
    table, gold = folder / "described.parquet", folder / "labels.csv"
    tables.write_rows(table, rows, columns_through("describe"), lineage)
    tables.write_rows(ledger_path(table), lines, RECORDINGS, lineage)
    gold.write_text("\n".join(labels) + "\n", encoding="utf-8")
    return table, gold


def buzz(seconds: float, *, pitch: float, noise: float, tremolo: float, seed: int) -> np.ndarray:
    """A harmonic tone of `pitch` and tremolo in Hz, with a share of noise, 0..1."""
    t = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 11))
    hiss = np.random.default_rng(seed).normal(size=len(t))
    return 0.1 * ((1 - noise) * tone + noise * hiss) * (1 + 0.8 * np.sin(2 * np.pi * tremolo * t)) / 2
