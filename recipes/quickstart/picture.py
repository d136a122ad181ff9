"""Draws one utterance of a table of scores as SVG: its sound, its words with their prominence, and its scores.

    cd recipes/quickstart
    python picture.py ../../scores.parquet corpus clips/stress.flac#0000 utterance.svg

The text and the numbers are those of the table. Only the waveform is read from the recording. The README shows the result.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import Any

import av
import numpy as np
import polars as pl

WIDTH, HEIGHT, MARGIN = 860, 384, 24
WAVE, BARS, WORDS, NOTE, SCORES = 80, 168, 188, 240, 288
"""Vertical positions: middle of the waveform, foot of the bars, base lines of words and description, first score."""

STYLE = """
  text { fill: #1f2328; font-family: Helvetica, Arial, sans-serif; font-size: 15px; }
  .card { fill: #ffffff; stroke: #d0d7de; } .line { stroke: #d0d7de; }
  .dim { fill: #59636e; font-size: 12.5px; } .wave { fill: #8c959f; } .bar { fill: #afb8c1; }
  .most { fill: #bc4c00; font-weight: bold; } .score { fill: #0550ae; }
  .range { stroke: #54aeff; stroke-width: 8; stroke-linecap: round; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .card { fill: #0d1117; stroke: #3d444d; } .line { stroke: #3d444d; }
    .dim { fill: #9198a1; } .wave { fill: #656c76; } .bar { fill: #656c76; }
    .most { fill: #ffa657; } .score { fill: #c2e0ff; } .range { stroke: #1f6feb; }
  }
"""


def samples(path: Path, start: float, end: float) -> np.ndarray:
    """The recording from `start` to `end` (s): float32 [samples], mono, at 16 kHz."""
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=16_000)
    with av.open(str(path)) as container:
        blocks = [block.to_ndarray()[0] for frame in container.decode(audio=0) for block in resampler.resample(frame)]
    return np.concatenate(blocks)[int(start * 16_000) : int(end * 16_000)]


def draw(row: dict[str, Any], sound: np.ndarray) -> str:
    """The SVG of one utterance. row: of a table of scores. sound: its samples, float32 [n]."""
    inside = WIDTH - 2 * MARGIN

    def x(seconds: float) -> float:
        return MARGIN + inside * (seconds - row["start"]) / (row["end"] - row["start"])

    def text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(content)}</text>'

    about = f"utterance {row['utterance_id']}, {row['start']:.2f} to {row['end']:.2f} s, language {row['language']}"
    parts = [text(MARGIN, 30, about, "dim")]
    levels = [np.abs(block).max() for block in np.array_split(sound, inside // 2)]
    tops = [(MARGIN + 2 * i, 34 * level / max(levels)) for i, level in enumerate(levels)]
    outline = [f"{at},{WAVE - height:.1f}" for at, height in tops]
    outline += [f"{at},{WAVE + height:.1f}" for at, height in reversed(tops)]
    parts.append(f'<polygon class="wave" points="{" ".join(outline)}"/>')

    emphasised = {i for span in row["emphasis_spans"] for i in range(span["first_word"], span["last_word"] + 1)}
    lowest, highest = min(filter(None, row["emphasis"])), max(filter(None, row["emphasis"]))
    for i, (word, prominence) in enumerate(zip(row["words"], row["emphasis"], strict=True)):
        left, right = x(word["start"]), x(word["end"])
        kind = "most" if i in emphasised else ""
        parts.append(text((left + right) / 2, WORDS, word["word"], kind, "middle"))
        if prominence is not None:
            height = 3 + 33 * (prominence - lowest) / (highest - lowest)
            place = f'x="{left + 1:.1f}" y="{BARS - height:.1f}" width="{right - left - 2:.1f}" height="{height:.1f}"'
            parts.append(f'<rect class="bar {kind}" {place}/>')
    parts.append(text(MARGIN, WORDS + 20, "bars: prominence of each word; orange: the emphasised words", "dim"))
    parts += [text(MARGIN, NOTE + 18 * i, line) for i, line in enumerate(wrap(row["description"], 90))]

    for i, name in enumerate(("valence", "arousal", "dominance")):
        y = SCORES + 26 * i
        low, score, high = (MARGIN + 160 + 600 * row[column] for column in (f"{name}_low", name, f"{name}_high"))
        parts.append(text(MARGIN, y + 5, name))
        parts.append(text(MARGIN + 130, y + 5, f"{row[name]:.2f}", anchor="end"))
        parts.append(f'<line class="line" x1="{MARGIN + 160}" x2="{MARGIN + 760}" y1="{y}" y2="{y}"/>')
        parts.append(f'<line class="range" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="score" cx="{score:.1f}" cy="{y}" r="5"/>')
    parts.append(text(MARGIN + 160, SCORES + 76, "0", "dim"))
    parts.append(text(MARGIN + 760, SCORES + 76, "1", "dim", "end"))
    parts.append(text(MARGIN + 460, SCORES + 76, "dots: scores; bars: 90 % prediction intervals", "dim", "middle"))
    card = f'<rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>'
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{STYLE}</style>\n{card}\n' + "\n".join(parts) + "\n</svg>\n"


def main(table: str, corpus: str, utterance: str, out: str) -> None:
    """Draw `utterance` of `table`, whose recordings are below `corpus`, into the file `out`."""
    [row] = pl.scan_parquet(table).filter(pl.col("utterance_id") == utterance).collect().to_dicts()
    sound = samples(Path(corpus, row["recording_id"]), row["start"], row["end"])
    Path(out).write_text(draw(row, sound), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
