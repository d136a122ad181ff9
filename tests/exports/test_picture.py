"""The picture is written in the form that its name says, holds every dimension, and needs no other file."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from msfser_cli.errors import UsageError
from msfser_cli.evaluation.evaluate import Evaluation, evaluate
from msfser_cli.evaluation.pairing import COLUMNS
from msfser_cli.exports.picture import DOTS, SHARES, _density, write_picture
from msfser_cli.store import tables
from msfser_cli.store.lineage import Lineage

pytestmark = pytest.mark.process
"""Matplotlib asks a process for the machine's fonts, the first time it draws for a user."""


def evaluation(folder: Path, n: int, header: str = "file,valence,arousal,dominance") -> Evaluation:
    rng = np.random.default_rng(0)
    rated = rng.uniform(1, 5, (n, 3))
    rated[:2] = ((1, 1, 1), (5, 5, 5))
    columns = header.count(",")
    lines = [header, *(f"<{i}>.wav," + ",".join(f"{v:.2f}" for v in rated[i, :columns]) for i in range(n))]
    (folder / "gold.csv").write_text("\n".join(lines))
    rows = [{"recording_id": f"<{i}>.wav", "utterance_id": f"{i}", "start": 0.0, "end": 1.0, "speaker": None,
             **dict(zip(("valence", "arousal", "dominance"), (rated[i] + rng.normal(0, 1, 3)).tolist(), strict=True))}
            for i in range(n)]
    tables.write_rows(folder / "s<b>.parquet", rows, COLUMNS,
                      Lineage(stage="predict", tool_version="0", fingerprint="0", extra={"scale": [1, 5]}))
    return evaluate(folder / "s<b>.parquet", folder / "gold.csv", resamples=200)


@pytest.mark.parametrize("n", [2, 50, DOTS + 300])
def test_each_form_is_what_its_name_says(tmp_path: Path, n: int) -> None:
    result = evaluation(tmp_path, n)
    for name in ("p.png", "p.SVG", "p.html"):
        write_picture(tmp_path / name, result)
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert ET.fromstring((tmp_path / "p.SVG").read_text()).tag == "{http://www.w3.org/2000/svg}svg"
    page = (tmp_path / "p.html").read_text()
    [image] = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert ET.fromstring(base64.b64decode(image)).tag == "{http://www.w3.org/2000/svg}svg"
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", page)
    for dimension, a in result.dimensions.items():
        assert f"<td>{dimension}</td>" in page
        assert f"{a.ccc:.3f}" in page


def test_the_same_evaluation_is_drawn_alike(tmp_path: Path) -> None:
    result = evaluation(tmp_path, 60, "file,valence")
    for name in ("a.svg", "b.svg"):
        write_picture(tmp_path / name, result)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_the_shades_hold_their_shares_of_the_pairs() -> None:
    rng = np.random.default_rng(0)
    rated = np.round(rng.normal(4, 0.8, 20_000).clip(1, 7) * 5) / 5  # means of five raters
    predicted = 0.6 * (rated - 4) + 4 + rng.normal(0, 0.6, 20_000).clip(-2, 2)
    density, levels, outside = _density(rated, predicted, (0.8, 7.2))
    assert (np.diff(levels) > 0).all()
    cells = [((side - 0.8) / 6.4 * len(density)).astype(int) for side in (rated, predicted)]
    held = [(density[cells[0], cells[1]] >= level).mean() for level in levels]
    assert held == pytest.approx(SHARES, abs=0.04)
    assert outside.mean() == pytest.approx(1 - held[0], abs=1e-3)


def test_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the name of a picture must end in \.png, \.svg or \.html"):
        write_picture(tmp_path / "p.pdf", evaluation(tmp_path, 5))
