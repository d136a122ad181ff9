"""Embedded tables and labels with a known truth, for the tests of training."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msfser_cli.schemas import RECORDINGS, columns_through, names
from msfser_cli.store import tables
from msfser_cli.store.ledger import ledger_path
from msfser_cli.store.lineage import Lineage

ACOUSTIC, TEXT = 8, 6
EMBED = {"acoustic_encoder": "whisper", "acoustic_model": "base", "text_encoder": "transformers-text", "text_model": "mini"}


@dataclass
class Corpus:
    """`rows` of an embedded table and the lines of a label file; change either, then `write`."""

    rows: list[dict[str, Any]]
    labels: list[dict[str, Any]]

    def write(self, folder: Path, **embed: str) -> tuple[Path, Path]:
        """The table and the label file. embed: settings of embed besides `EMBED`."""
        table, gold = folder / "embedded.parquet", folder / "labels.csv"
        lineage = Lineage(stage="embed", tool_version="0", fingerprint="0", settings={"embed": {**EMBED, **embed}},
                          corpus_root=str(folder))
        tables.write_rows(table, self.rows, columns_through("embed"), lineage)
        known = {"status": "done", "size_bytes": 1, "sha256": "0", "duration": 2.0, "seconds": 0.0}
        line = dict.fromkeys(names(RECORDINGS)) | known
        utterances = Counter(row["recording_id"] for row in self.rows)
        lines = [line | {"recording_id": of, "input_key": of, "utterances": count} for of, count in utterances.items()]
        tables.write_rows(ledger_path(table), lines, RECORDINGS, lineage)
        header = list(self.labels[0])
        text = [",".join(header), *(",".join("" if line[n] is None else str(line[n]) for n in header) for line in self.labels)]
        gold.write_text("\n".join(text) + "\n", encoding="utf-8")
        return table, gold


def corpus(utterances: int = 240, speakers: int = 8, seed: int = 0) -> Corpus:
    """One utterance a recording. Arousal follows the voice, valence the transcript, dominance both; 1..7, a little noise."""
    rng = np.random.default_rng(seed)
    rows, labels = [], []
    for i in range(utterances):
        speaker = f"s{i % speakers}"
        voice, texts = rng.normal(size=ACOUSTIC).astype(np.float32), rng.normal(size=(3, TEXT)).astype(np.float32)
        heard, said = np.tanh(voice[0]), np.tanh(texts[1, 0])
        rated = 4 + 2.5 * np.array([said, heard, (heard + said) / 2]) + rng.normal(0, 0.2, 3)
        recording = f"{speaker}/{i:04d}.wav"
        row: dict[str, Any] = dict.fromkeys(c.name for c in columns_through("embed"))
        row |= {"recording_id": recording, "utterance_id": f"{recording}#0000", "start": 0.0, "end": 2.0, "language": "en"}
        row |= {"text": "so it is", "words": [], "emphasis": [], "emphasis_cues": [], "emphasis_spans": []}
        row |= {"acoustic_vector": voice, "les_vector": texts[0] if i % 3 else None, "gs_vector": texts[1]}
        row |= {"es_vector": texts[2]}
        rows.append(row)
        valence, arousal, dominance = (round(float(x), 4) for x in rated.clip(1, 7))
        labels.append({"file": recording, "valence": valence, "arousal": arousal, "dominance": dominance, "speaker": speaker})
    return Corpus(rows, labels)

