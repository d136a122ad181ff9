"""Names are data, whoever chose them, and nothing is written but the output, what lies beside it, and the cache."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kit.doubled import make_models, options_of
from kit.program import Done, Program, run_afresh
from kit.sounds import hum
from msfser_cli.cli.log import EVENTS
from msfser_cli.errors import REASONS
from msfser_cli.schemas import columns_through
from msfser_cli.store import tables
from msfser_cli.store.ledger import read_ledger

pytestmark = pytest.mark.process

TESTS = Path(__file__).parents[1]

STEMS = (
    "-rf", "--out", "--out=x", "-", "plain", "new\nline", "tab\there", "carriage\rreturn", "\x1b[31mred\x1b[0m", "bell\a",
    "back\b\b\bspace", "right\u202eto left", "zero\u200bwidth", "line\u2028separator", "next\x85line", "%s%n%d", "{}",
    "{0.__class__}", "$(touch x)", "`touch x`", "; touch x", "[red]x[/red]", "[link=file:x]x[/link]", "[/]", "'quoted'",
    '"quoted"', "back\\slash", "\\x1b[31m", " leading", "trailing ", "~", "*", "?",
    "CON", "NUL", "#0000", "plain.wav#0000", "plain.wav#0000#0001",
    "e" * 251, "\u00e9" * 125, "nfc \u00e9", unicodedata.normalize("NFD", "nfc \u00e9"), "a:b", "a,b", "\U0001f600", "\ufeffbom",
    "msfser: done", "warning: none", "http:x",
)  # fmt: skip
NAMES: tuple[str, ...] = (*(f"{stem}.wav" for stem in STEMS), os.fsdecode(b"latin \xe9.wav"), os.fsdecode(b"\xff\xfe.wav"))
ODD = {"pipe.wav", "socket.wav", "device.wav", "to a file.wav", "dangling.wav", "loop.wav", "to a folder.wav"}
"""Of the folder that `make_hostile` makes, what is no file or a link."""


@pytest.fixture
def place(tmp_path: Path, doubles: None) -> Path:
    """A working directory with models/ for the doubles, which are quick."""
    make_models(tmp_path / "models")
    return tmp_path


@pytest.fixture
def hostile_corpus(place: Path) -> Iterator[Path]:
    """corpus/ with a recording of every name, and what has a recording's name and is none; outside.wav beside it."""
    corpus = place / "corpus"
    (corpus / "folder.wav").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        hum(corpus / name, level=0.1 + number / 1000)
    hum(corpus / "folder.wav" / "inside.wav")
    (corpus / "\x1b[31m\n[red]").mkdir()
    hum(corpus / "\x1b[31m\n[red]" / "inside.wav")
    hum(place / "outside.wav")
    os.mkfifo(corpus / "pipe.wav")
    if os.geteuid() == 0:
        with suppress(PermissionError):
            os.mknod(corpus / "device.wav", stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero, which has no end
    (corpus / "to a file.wav").symlink_to("../outside.wav")
    (corpus / "dangling.wav").symlink_to("nowhere.wav")
    (corpus / "loop.wav").symlink_to("loop.wav")
    (corpus / "to a folder.wav").symlink_to("folder.wav")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/self/fd/{(at := os.open(corpus, os.O_RDONLY))}/socket.wav")
        os.close(at)
        yield corpus


def recording_ids() -> set[str]:
    return {os.fsencode(name).decode("utf-8", "backslashreplace") for name in NAMES}


def is_said_well(done: Done) -> list[str]:
    """The lines on stderr: no control characters in them, and each begins as msfser's lines do."""
    said = done.stderr
    assert all(c == "\n" or c.isprintable() for c in said), repr(said)
    assert not said or said.endswith("\n")
    return said.splitlines()


BEGINNINGS = ("failed: ", "warning: ", "msfser: ", "no longer in the corpus: ")


def events(done: Done) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [json.loads(line) for line in is_said_well(done)]
    for event in found:
        assert event["event"] in EVENTS
        assert datetime.fromisoformat(event["time"]).tzinfo
    return found


def accounted(out: Path, stage: str) -> dict[str, dict[str, Any]]:
    """The ledger of a table, whose every line is the end of a recording."""
    ledger = read_ledger(out)
    columns = columns_through(stage, vectors=stage != "predict")
    rows = dict(tables.iter_recordings(out, columns))
    ids = [row["utterance_id"] for found in rows.values() for row in found]
    assert len(set(ids)) == len(ids) > 0
    for recording, line in ledger.items():
        assert len(rows.get(recording, [])) == line["utterances"]
        assert (line["status"] == "failed") == (line["reason"] is not None)
        assert line["reason"] is None or line["reason"] in REASONS
    assert rows.keys() <= ledger.keys()
    return ledger


# A corpus


def test_every_name_in_a_corpus_is_data(msfser: Program, hostile_corpus: Path, place: Path) -> None:
    before = {p.name for p in place.iterdir()}
    first = msfser(place, "transcribe", "corpus", "--json", "--max-failed", "1", *options_of("transcribe"))
    *said, counts, table, failed = is_said_well(first)
    assert first.returncode == 3
    assert all(line.startswith("failed: ") for line in said)
    assert json.loads(first.stdout)["failed"] == len(said)
    assert counts.startswith(f"{json.loads(first.stdout)['recordings']} recordings: ")
    assert table.startswith("utterances.parquet: ")
    assert failed.endswith("see utterances.recordings.parquet")

    out = place / "utterances.parquet"
    ledger = accounted(out, "transcribe")
    assert recording_ids() <= {name for name, line in ledger.items() if line["status"] == "done"}
    odd = {name: ledger[name]["reason"] for name in ODD if name in ledger}
    assert odd.pop("device.wav", "unreadable") == "unreadable"
    assert odd == {"pipe.wav": "unreadable", "socket.wav": "unreadable", "to a file.wav": None, "dangling.wav": "missing",
                   "loop.wav": "unreadable", "to a folder.wav": "unreadable"}  # fmt: skip
    inside = {"folder.wav/inside.wav", "\x1b[31m\n[red]/inside.wav"}
    assert ledger.keys() - recording_ids() - odd.keys() - {"device.wav"} == inside
    assert {p.name for p in place.iterdir()} - before <= {out.name, "utterances.recordings.parquet", ".utterances.parquet.seen"}

    content = out.read_bytes()
    again = msfser(place, "transcribe", "corpus", "--json", "--quiet", "--max-failed", "1", *options_of("transcribe"))
    assert (again.returncode, again.stderr) == (3, "")
    assert json.loads(again.stdout)["unchanged"] == len(ledger)
    assert out.read_bytes() == content

    dry = msfser(place, "transcribe", "corpus", "--dry-run", "--redo", "--log-format", "json", *options_of("transcribe"))
    assert [e["pending"] for e in events(dry)] == [len(ledger)]
    assert len(dry.stdout.splitlines()) == len(ledger)
    assert all(c == "\n" or c.isprintable() for c in dry.stdout)


@pytest.mark.slow
def test_every_name_goes_through_all_stages(msfser: Program, hostile_corpus: Path, place: Path) -> None:
    told = ["--max-failed", "1", "--log-format", "json", "--json"]
    chain = msfser(place, "predict", "corpus", *told, *options_of("chain"))
    assert chain.returncode == 3, chain.stderr
    recordings = [e for e in events(chain) if e["event"] == "recording"]
    given = "corpus"
    for stage in ("transcribe", "emphasize", "describe", "embed", "predict"):
        done = msfser(place, stage, given, "--out", f"{stage}.parquet", *told, *options_of(stage))
        assert done.returncode == 3, done.stderr
        given = f"{stage}.parquet"
        assert json.loads(done.stdout)["recordings"] == len(recordings)
        assert events(done)[-1]["event"] == "summary"
    one, other = (accounted(place / out, "predict") for out in ("scores.parquet", "predict.parquet"))
    assert one.keys() == other.keys() == {e["recording_id"] for e in recordings}
    assert {k: v["status"] for k, v in one.items()} == {k: v["status"] for k, v in other.items()}
    columns = ["utterance_id", "text", "valence", "arousal", "dominance"]
    assert pq.read_table(place / "scores.parquet", columns=columns) == pq.read_table(place / "predict.parquet", columns=columns)


# A manifest, a list, an output, labels


ELSEWHERE = ("../outside.wav", "..", "../..", "sub/../../outside.wav", "/etc/hostname", "/")


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_every_name_in_a_manifest_is_data(msfser: Program, hostile_corpus: Path, place: Path, suffix: str) -> None:
    names = [name for name in NAMES if name.isprintable() or suffix == "jsonl"]
    names = [name for name in names if not any("\ud800" <= c <= "\udfff" for c in name)]
    more = [*sorted(ODD), "no such.wav", "plain.wav/below.wav", "folder.wav", "x" * 5000, ".", "\x1b[31m.wav"]
    if suffix == "jsonl":
        more += ["nul\0.wav", "new\n\nlines", "\x1b]0;title\a"]
    manifest = hostile_corpus / f"list.{suffix}"

    def write(listed: list[str]) -> None:
        quoted = ['"{}"'.format(name.replace('"', '""')) for name in listed]
        lines = [json.dumps({"path": name}) for name in listed] if suffix == "jsonl" else ["path", *quoted]
        manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")

    write(names + more)
    command = ["transcribe", f"corpus/list.{suffix}", "--json", "--max-failed", "1", *options_of("transcribe")]
    done = msfser(place, *command)
    is_said_well(done)
    assert done.returncode == 3, done.stderr
    ledger = accounted(place / "utterances.parquet", "transcribe")
    assert json.loads(done.stdout)["recordings"] == len(ledger) >= len(names) + len(more) - 1
    write(names[:5])  # the others are no longer there, or not asked for
    fewer = msfser(place, *command)
    is_said_well(fewer)
    assert fewer.returncode in (0, 3), fewer.stderr
    assert json.loads(fewer.stdout)["unchanged"] == 5

    for name in (*ELSEWHERE, ""):
        write([*names[:1], name])
        refused = msfser(place, *command)
        assert (refused.returncode, refused.stdout) == (2 if name else 4, ""), name
        [line] = is_said_well(refused)
        assert line.startswith("msfser: ")


def test_every_name_on_stdin_is_data(msfser: Program, hostile_corpus: Path, place: Path) -> None:
    names = [os.fsencode(name) for name in NAMES if "\n" not in name]
    odd = [b"no such.wav", b"nul\0.wav", b"folder.wav/../plain.wav", b"\x1b[31m.wav", b"x" * 5000]
    listed = [b"corpus/" + name for name in names + odd]
    command = ["transcribe", "-", "--root", "corpus", "--json", "--max-failed", "1", *options_of("transcribe")]
    done = msfser(place, *command, stdin=b"\n".join(listed))
    is_said_well(done)
    assert done.returncode == 3, done.stderr
    ledger = accounted(place / "utterances.parquet", "transcribe")
    spoken = {name for name, line in ledger.items() if line["status"] == "done"}
    assert spoken == {name for name in recording_ids() if "\n" not in name}
    assert ledger.keys() - spoken == {"no such.wav", "nul\0.wav", "\x1b[31m.wav", "x" * 5000}
    unchanged = msfser(place, *command, stdin=b"\r\n".join(listed) + b"\r\n\r\n")
    assert json.loads(unchanged.stdout)["unchanged"] == len(ledger)
    for wrong in (b"../outside\x1b[31m.wav", b"/etc/hostname", b"", b"\n\n", b"-", b"\0"):
        refused = msfser(place, *command, stdin=wrong)
        assert refused.returncode in (2, 3), refused.stderr
        is_said_well(refused)


def test_every_name_of_an_output_is_taken_or_refused(msfser: Program, place: Path) -> None:
    hum(place / "corpus" / "a.wav")
    stems = ["-rf", "new\nline", "\x1b[31mred", "[red]{}%s$(touch x)", "plain", "x" * 201, os.fsdecode(b"latin \xe9"), "..",
             "../../../../../../../../proc/x"]
    for number, stem in enumerate(stems):
        outs = [f"{stem}.parquet"] if stem.startswith("../") else [f"out{number}/{stem}.parquet", f"out{number}/{stem}/"]
        for out in outs:
            before = set(place.rglob("*"))
            done = msfser(place, "transcribe", "corpus", f"--out={out}", "--json", *options_of("transcribe"))
            is_said_well(done)
            assert done.returncode in (0, 2, 7), (out, done.stderr)
            new = set(place.rglob("*")) - before
            if done.returncode:
                assert len(done.stderr.splitlines()) == 1
                assert not {p for p in new if p.is_file()}
            else:
                assert (place / out).exists()
                assert all(p.is_relative_to(place / f"out{number}") for p in new)


def test_every_name_of_a_speaker_is_data(msfser: Program, place: Path) -> None:
    """In the report's tables, where square brackets would be markup; and a file that is not there, whatever it is called."""
    lines = ["path,speaker"]
    speakers = ["[red]x[/red]", "[/]", "[link=file:x]y[/link]", ":bomb:", "\x1b[31mz", "{}", "%s", "\u202eleft", "[bold", "a\\"]
    for number in range(2 * len(speakers)):
        hum(place / "corpus" / f"{number:02d}.wav", level=0.05 + number / 100)
        lines.append(f'{number:02d}.wav,"{speakers[number // 2]}"')
    (place / "corpus" / "list.csv").write_text("\n".join(lines))
    assert msfser(place, "predict", "corpus/list.csv", *options_of("chain")).returncode == 0
    labels = ["recording_id,speaker,valence,arousal,dominance"]
    labels += [f"{line},{1 + n % 7},{1 + n % 5},{1 + n % 3}" for n, line in enumerate(lines[1:])]
    gold = place / "[red]\x1b[31m.csv"
    gold.write_text("\n".join(labels))
    done = msfser(place, "evaluate", "--gold", gold.name, "--scale", "1:7", "--by", "speaker", "--resamples", "100")
    is_said_well(done)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert all(c == "\n" or c.isprintable() for c in said)
    shown = {line.split("  ")[0].rstrip("*") for line in said.splitlines()}
    assert {"".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in s) for s in speakers} <= shown, said
    assert r"[red]\x1b[31m.csv" in said

    head = ["predict", "corpus", "--out", "new.parquet", *options_of("transcribe"), *options_of("embed")]
    for name in ("[red]\x1b[31m\nno such", "x" * 5000, os.fsdecode(b"\xff")):
        for command in (["evaluate", f"--gold={name}"], [*head, f"--head={name}"], ["emphasize", name]):
            refused = msfser(place, *command)
            *_, line = is_said_well(refused)
            assert refused.returncode in (2, 4, 5), (command, line)
            assert (refused.stdout, line.startswith("msfser: ")) == ("", True)


@pytest.mark.slow
def test_an_output_that_is_an_input_is_refused(msfser: Program, place: Path) -> None:
    hum(place / "corpus" / "a.wav")
    pq.write_table(pa.table({"path": ["a.wav"]}), place / "corpus" / "list.parquet")
    pq.write_table(pa.table({"recording_id": ["a.wav"], "valence": [1.0]}), place / "labels.parquet")
    (place / "labels.csv").write_text("recording_id,valence\na.wav,1\n")
    assert msfser(place, "transcribe", "corpus/a.wav", "--root", "corpus", *options_of("transcribe")).returncode == 0
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in place.rglob("*") if p.is_file()}
    chain = ["--calibrate", "labels.parquet", "--scale", "1:7", *options_of("chain")]
    for redo in ([], ["--redo"]):
        for command in (
            ["transcribe", "corpus/list.parquet", "--out", "corpus/list.parquet", *options_of("transcribe")],
            ["predict", "corpus/list.parquet", "--out", "corpus/list.parquet", *options_of("chain")],
            ["transcribe", "corpus", "--out", "corpus", *options_of("transcribe")],
            ["transcribe", "corpus", "--out", "corpus/", *options_of("transcribe")],
            ["transcribe", "corpus", "--out", "corpus/a.wav", *options_of("transcribe")],
            ["transcribe", "corpus", "--out", "corpus/a.wav/", *options_of("transcribe")],
            ["emphasize", "utterances.parquet", "--out", "utterances.parquet"],
            ["emphasize", "utterances.parquet", "--out", "utterances.recordings.parquet"],
            ["predict", "utterances.parquet", "--out", "utterances.parquet", *options_of("embed"), *options_of("predict")],
            ["predict", "corpus", "--out", "labels.parquet", *chain],
            ["predict", "corpus", "--out", "models/head", *options_of("chain")],
        ):
            refused = msfser(place, *command, *redo)
            # Labels are read, and found too few, before the output is looked at.
            assert refused.returncode == (4 if "--calibrate" in command else 2), (command, refused.stderr)
            *_, line = is_said_well(refused)
            assert (refused.stdout, line.startswith("msfser: ")) == ("", True)
            assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in place.rglob("*") if p.is_file()} == before, command


# Where it writes

WATCH = """
import os, sys
LOG = os.open(os.environ["TEST_WRITES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
NAMES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown",
         "os.utime", "os.setxattr", "os.removexattr", "os.mkfifo", "os.mknod", "shutil.rmtree", "shutil.move"}

def see(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        paths = [path] if writes and not isinstance(path, int) else []
    elif event in NAMES:
        paths = [p for p in arguments[:2] if isinstance(p, (str, bytes, os.PathLike))]
    else:
        return
    folder = arguments[-1] if event in ("os.remove", "os.rmdir", "os.mkdir") else -1  # it may be relative to an open one
    for path in paths:
        if isinstance(folder, int) and folder >= 0:
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(path))
        os.write(LOG, f"{event} {os.path.abspath(os.fsdecode(path))!a}\\n".encode())

sys.addaudithook(see)
"""


def all_files(folder: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        found[str(path)] = about.st_mode, about.st_mtime_ns, about.st_uid, path.read_bytes() if path.is_file() else b""
    return found


@pytest.mark.one_in(3)
@pytest.mark.parametrize("what", ["all", "failing", "calibrating"])
def test_nothing_is_written_elsewhere(place: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    for name in ("home", "temporary", "work", "cache", "out", "watch"):
        (place / name).mkdir()
    for number in range(24):
        hum(place / "corpus" / f"{number:02d}.wav", level=0.06 + number / 50)
    (place / "corpus" / "page.mp3").write_text("<html>not here</html>")
    labels = ["recording_id,speaker,valence,arousal,dominance"]
    labels += [f"{n:02d}.wav,{n % 8},{1 + n % 7},{1 + n % 5},{1 + n % 3}" for n in range(24)]
    (place / "labels.csv").write_text("\n".join(labels))
    (place / "watch" / "sitecustomize.py").write_text(WATCH)
    writes = place / "watch" / "writes"
    monkeypatch.setenv("PYTHONPATH", str(place / "watch"), prepend=os.pathsep)
    before = {name: all_files(place / name) for name in ("corpus", "models", "home", "temporary", "work")}
    places = {"HOME": "home", "TMPDIR": "temporary", "MSFSER_CACHE": "cache"}
    environment = {name: str(place / value) for name, value in places.items()} | {"TEST_WRITES": str(writes)}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # what Python compiles beside an editable checkout is Python's own
    models = options_of("chain", str(place / "models"))
    if what == "failing":
        models[models.index("--head") + 1] = str(place / "nowhere")
    more = ["--calibrate", str(place / "labels.csv"), "--scale", "1:7"] if what == "calibrating" else []
    out = str(place / "out" / "deep" / "scores.parquet")
    done = run_afresh(place / "work", "predict", str(place / "corpus"), "--out", out, "--json", *more, *models, **environment)
    assert done.returncode == (5 if what == "failing" else 3), done.stderr
    assert {name: all_files(place / name) for name in before} == before
    allowed = [str(place / "out"), str(place / "cache"), "/dev/null"]
    if what == "calibrating":  # the sample is decoded there, into a file without a name
        allowed.append(str(place / "temporary"))
    seen = [line.partition(" ")[2].strip("'") for line in writes.read_text().splitlines()]
    # torch imports dill where that is installed, and dill asks Python for a folder for temporary files, which tries it out
    probe = re.compile(re.escape(str(place / "temporary")) + "/[a-z0-9_]{8}")
    seen = [path for path in seen if not probe.fullmatch(path)]
    assert [path for path in seen if not any(path == a or path.startswith(f"{a}/") for a in allowed)] == []
    if what != "failing":
        assert any(path.startswith(str(place / "out" / "deep")) for path in seen)
        assert {p.name for p in (place / "out" / "deep").iterdir()} <= {
            "scores.parquet", "scores.recordings.parquet", ".scores.parquet.seen"}  # fmt: skip
