"""Label Studio: a task for each recording with its utterances as predictions, and the labelling configuration that goes with it.

Written here, because Label Studio's own package brings several hundred MB of others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from msfser_cli import __version__
from msfser_cli.exports.format import PerTable
from msfser_cli.exports.recordings import Recording, Table, Utterance
from msfser_cli.schemas import DIMENSIONS

_LOCAL = "/data/local-files/?d="
"""How Label Studio names a file below its document root (LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT)."""
_TEXTS = ("text", "speaker", "description")


def _files(table: Table, say: Callable[[str], None]) -> Iterator[tuple[str, Iterator[bytes]]]:
    yield "labelstudio.json", _tasks(table)
    yield "labelstudio.xml", iter([_configuration().encode()])


def _tasks(table: Table) -> Iterator[bytes]:
    before = b"[\n"
    for recording in table.recordings():
        yield before + json.dumps(_task(recording), ensure_ascii=False, allow_nan=False).encode()
        before = b",\n"
    yield b"\n]\n" if before == b",\n" else b"[]\n"


def _task(recording: Recording) -> dict[str, Any]:
    regions = [value for utterance in recording.utterances for value in _region(utterance)]
    return {
        "data": {"audio": _LOCAL + quote(recording.id), "recording_id": recording.id},
        "predictions": [{"model_version": f"msfser {__version__}", "result": regions}],
    }


def _region(utterance: Utterance) -> Iterator[dict[str, Any]]:
    """The utterance as a region, and what is said of it: results with one id are of one region."""
    def result(name: str, kind: str, key: str, value: Any) -> dict[str, Any]:
        place = {"start": utterance.start, "end": utterance.end, "channel": utterance.channel or 0}
        return {"id": utterance.id, "from_name": name, "to_name": "audio", "type": kind, "value": {**place, key: value}}

    yield result("utterance", "labels", "labels", ["utterance"])
    for name in _TEXTS:
        if value := getattr(utterance, name):
            yield result(name, "textarea", "text", [value])
    for dimension, score in utterance.scores.items():
        yield result(dimension, "number", "number", score.value)


def _configuration() -> str:
    texts = "".join(f'  <TextArea name="{name}" toName="audio" perRegion="true" editable="true"/>\n' for name in _TEXTS)
    numbers = "".join(f'  <Number name="{d}" toName="audio" perRegion="true" step="0.01"/>\n' for d in DIMENSIONS)
    labels = '  <Labels name="utterance" toName="audio">\n    <Label value="utterance"/>\n  </Labels>\n'
    return f'<View>\n  <Audio name="audio" value="$audio"/>\n{labels}{texts}{numbers}</View>\n'


FORMATS = {"labelstudio": PerTable((), _files)}
