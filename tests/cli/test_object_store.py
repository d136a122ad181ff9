"""A corpus in an object store: the rows of the same files on disk, with few requests. Real servers, quick back ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kit import object_stores
from kit.doubled import make_models, options_of
from kit.object_stores import S3
from kit.program import AFRESH, Program, run_afresh
from kit.sounds import hum
from msfser_cli.backends import Row
from msfser_cli.store import tables
from msfser_cli.store.ledger import read_ledger

pytestmark = [pytest.mark.process, pytest.mark.server, pytest.mark.usefixtures("doubles")]

SPOKEN = ["show/0.wav", "show/1.wav", "show/more folders/ü #%25?+.wav"]
NAMES = sorted([*SPOKEN, "show/page.mp3", "show/silent.wav"])
PREDICT = ["predict", "s3://archive/show", "--out", "x.parquet", *options_of("chain")]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with models, and a folder `show`, some of whose files are no recordings or hidden."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for i, name in enumerate(SPOKEN):
        hum(tmp_path / name, 1 + i, 0.1 + i / 100)
    hum(tmp_path / "show/silent.wav", 2, 0)
    hum(tmp_path / "show/.trash/old.wav", 1)
    hum(tmp_path / "show/@eaDir/thumb.wav", 1)
    (tmp_path / "show/page.mp3").write_text("<html>not here</html>")
    (tmp_path / "show/notes.txt").write_text("of the show")
    make_models(tmp_path / "models")
    return tmp_path


def files(home: Path) -> Iterator[tuple[str, bytes]]:
    return ((str(path.relative_to(home)), path.read_bytes()) for path in sorted((home / "show").rglob("*")) if path.is_file())


@pytest.fixture
def store(home: Path) -> Iterator[S3]:
    """The folder in S3, and beside it another."""
    with object_stores.s3() as store:
        for key, content in files(home):
            store.put(key, content)
        store.put("showcase/other.wav", (home / "show/0.wav").read_bytes())
        yield store


@pytest.fixture
def google(home: Path) -> Iterator[None]:
    """The folder in Google's store."""
    with object_stores.google_storage(home) as store:
        for key, content in files(home):
            store.put(key, content)
        yield


def rows(path: Path) -> list[Row]:
    return pq.read_table(path).to_pylist()  # type: ignore[no-any-return]


def ledger(path: Path) -> dict[str, Row]:
    """The lines, without the times that they took."""
    return {name: {**line, "seconds": None} for name, line in read_ledger(path).items()}


def reads(store: S3) -> list[str]:
    return [key for key in store.reads() if key]


@pytest.mark.parametrize("jobs", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_rows_are_those_of_the_files_on_disk(
    msfser: Program, home: Path, store: S3, monkeypatch: pytest.MonkeyPatch, jobs: str
) -> None:
    monkeypatch.setenv("MSFSER_JOBS", jobs)
    done = msfser(home, *PREDICT, "--json", code=3)
    assert reads(store) == NAMES  # each once
    summary = json.loads(done.stdout)
    assert (summary["recordings"], summary["ignored"]) == (5, 3)
    msfser(home, "predict", "show", "--out", "disk.parquet", *options_of("chain"), code=3)
    assert rows(home / "x.parquet") == rows(home / "disk.parquet")
    assert ledger(home / "x.parquet") == ledger(home / "disk.parquet")
    assert tables.read_lineage(home / "x.parquet").corpus_root == "s3://archive/show"
    assert {path.suffix for path in home.iterdir() if path.name.startswith(".")} == {".seen"}


@pytest.mark.usefixtures("google")
def test_rows_are_the_same_from_googles_store(msfser: Program, home: Path) -> None:
    msfser(home, "predict", "gs://archive/show/", "--out", "x.parquet", *options_of("chain"), code=3)
    msfser(home, "predict", "show", "--out", "disk.parquet", *options_of("chain"), code=3)
    assert rows(home / "x.parquet") == rows(home / "disk.parquet")
    assert tables.read_lineage(home / "x.parquet").corpus_root == "gs://archive/show"
    refused = msfser(home, "predict", "gs://archive/none", "--out", "y.parquet", *options_of("chain"), code=2)
    assert "gs://archive/none: no such object or folder" in refused.stderr


def test_only_what_changed_is_read_again(msfser: Program, home: Path, store: S3) -> None:
    msfser(home, *PREDICT, code=3)
    store.reads()
    again = json.loads(msfser(home, *PREDICT, "--json", code=3).stdout)
    assert again["unchanged"] == 5
    assert (len(store.requests), reads(store)) == (3, [])  # what it is, and what is in it
    store.put("show/1.wav", (home / "show/0.wav").read_bytes())
    store.put("show/new.wav", (home / "show/0.wav").read_bytes(), age=1)
    store.remove("show/0.wav")
    after = json.loads(msfser(home, *PREDICT, "--json", code=3).stdout)
    assert (after["unchanged"], after["done"], after["gone"]) == (3, 2, 1)
    assert reads(store) == ["show/1.wav", "show/new.wav"]
    pruned = msfser(home, *PREDICT, "--prune", code=3)
    assert "1 no longer in the corpus: removed" in pruned.stderr
    assert reads(store) == ["show/new.wav"]  # it may have been written twice in the minute when it was read
    assert "0.wav" not in read_ledger(home / "x.parquet")
    dry = msfser(home, *PREDICT, "--dry-run")
    assert "0 of 5 recordings would be done" in dry.stderr


def test_a_name_that_cannot_be_asked_for_fails_and_leaves(msfser: Program, home: Path, store: S3) -> None:
    store.put("show//slash.wav", b"RIFF")
    msfser(home, *PREDICT, code=3)
    line = read_ledger(home / "x.parquet")["/slash.wav"]
    assert (line["reason"], "copy it to another name" in line["detail"]) == ("unreadable", True)
    store.remove("show//slash.wav")
    dry = msfser(home, *PREDICT, "--prune", "--dry-run")
    assert "no longer in the corpus: /slash.wav\n--prune would remove their rows" in dry.stderr
    assert "/slash.wav" in read_ledger(home / "x.parquet")
    pruned = msfser(home, *PREDICT, "--prune", code=3)
    assert "1 no longer in the corpus: removed" in pruned.stderr
    assert "/slash.wav" not in read_ledger(home / "x.parquet")


def test_a_dry_run_reads_nothing_new(msfser: Program, home: Path, store: S3) -> None:
    dry = msfser(home, *PREDICT, "--dry-run", "--json")
    assert len(json.loads(dry.stdout)["pending"]) == 5
    assert reads(store) == []


def test_later_stages_read_the_audio_and_a_corpus_may_move(msfser: Program, home: Path, store: S3) -> None:
    msfser(home, "transcribe", "s3://archive/show", "--out", "t.parquet", *options_of("transcribe"), code=3)
    msfser(home, "emphasize", "t.parquet", "--out", "e.parquet", code=3)
    store.put("show/1.wav", (home / "show/0.wav").read_bytes())
    store.remove("show/0.wav")
    store.reads()
    msfser(home, "describe", "e.parquet", "--out", "d.parquet", code=3)
    assert reads(store) == ["show/1.wav", "show/more folders/ü #%25?+.wav"]
    reasons = {name: line["reason"] for name, line in read_ledger(home / "d.parquet").items()}
    assert reasons == {"0.wav": "missing", "1.wav": "changed", "more folders/ü #%25?+.wav": None, "page.mp3": "not_audio",
                       "silent.wav": None}  # fmt: skip

    for key, content in files(home):
        store.put(f"moved/{key}", content)
    msfser(home, "describe", "e.parquet", "--out", "m.parquet", "--root", "s3://archive/moved/show", code=3)
    msfser(home, "describe", "e.parquet", "--out", "l.parquet", "--root", "show", code=3)
    assert rows(home / "m.parquet") == rows(home / "l.parquet")
    assert len(rows(home / "m.parquet")) == 3


def test_any_names_of_one_bucket(msfser: Program, home: Path, store: S3) -> None:
    out = ["--out", "y.parquet", *options_of("chain")]
    listed = "s3://archive/show/1.wav\ns3://archive/showcase\ns3://archive/show/never.wav\n"
    msfser(home, "predict", "-", *out, stdin=listed, code=3)
    reasons = {name: line["reason"] for name, line in read_ledger(home / "y.parquet").items()}
    assert reasons == {"show/1.wav": None, "show/never.wav": "missing", "showcase/other.wav": None}
    msfser(home, "predict", "s3://archive/show/1.wav", "--out", "z.parquet", *options_of("chain"))
    assert list(read_ledger(home / "z.parquet")) == ["1.wav"]
    msfser(home, "predict", "s3://archive/show/1.wav", "--root", "s3://archive", "--out", "r.parquet", *options_of("chain"))
    assert list(read_ledger(home / "r.parquet")) == ["show/1.wav"]


@pytest.mark.parametrize(("names", "message"), [
    (["s3://archive/none"], "s3://archive/none: no such object or folder"),
    (["s3://archive/sho"], "s3://archive/sho: no such object or folder"),
    (["s3://nobody-has-this/show"], "s3://nobody-has-this/show: no such object or folder"),
    (["s3://"], "s3://: not an address of an object store; write it as s3://bucket/folder"),
    (["s3://archive/show", "show"], "show: on this machine, but other names are in an object store"),
    (["s3://archive/show", "--root", "show"], "show: on this machine, but other names are in an object store"),
    (["show", "--root", "s3://archive/show"], "show: on this machine, but other names are in an object store"),
    (["s3://archive/show", "gs://archive/show"], "s3://archive/show and gs://archive/show: in two buckets"),
    (["s3://archive/show", "--root", "s3://archive/other"], "not below the corpus root s3://archive/other"),
    (["s3://archive/labels.csv"], "s3://archive/labels.csv: a manifest names files on disk only"),
    (["s3://archive/show/notes.txt", "--out", "s3://archive/x.parquet"], "msfser writes to a file system only"),
    (["s3://archive/show/.trash"], None),
    (["s3://archive/show/@eaDir/none"], "no such object or folder"),
])  # fmt: skip
@pytest.mark.usefixtures("store")
def test_what_cannot_be_is_said(msfser: Program, home: Path, names: list[str], message: str | None) -> None:
    done = msfser(home, "predict", *names, *([] if "--out" in names else ["--out", "x.parquet"]), *options_of("chain"),
                  code=0 if message is None else 2)  # fmt: skip
    assert message is None or message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_object_that_cannot_be_read_fails_alone(msfser: Program, home: Path, store: S3) -> None:
    told = {"GET show/0.wav": 403, "HEAD show/1.wav": 404}
    store.before = told.get
    msfser(home, *PREDICT, code=3)
    lines = read_ledger(home / "x.parquet")
    assert {name: line["reason"] for name, line in lines.items()} == {
        "0.wav": "unreadable", "1.wav": "missing", "more folders/ü #%25?+.wav": None, "page.mp3": "not_audio", "silent.wav": None,
    }  # fmt: skip
    assert "ACCESS_DENIED" in lines["0.wav"]["detail"]
    assert "Request ID" not in lines["0.wav"]["detail"]
    told.clear()
    msfser(home, *PREDICT, code=3)  # it is tried again, because nothing is known of its content
    assert {name: line["reason"] for name, line in read_ledger(home / "x.parquet").items() if line["reason"]} == {
        "page.mp3": "not_audio"}  # fmt: skip


def test_an_object_that_changes_while_it_is_read_is_tried_again(msfser: Program, home: Path, store: S3) -> None:
    other = (home / "show/1.wav").read_bytes()

    def write(request: str) -> None:
        if request == "GET show/0.wav":
            store.before = lambda request: None
            store.put("show/0.wav", other)

    store.before = write
    msfser(home, *PREDICT, code=3)
    assert read_ledger(home / "x.parquet")["0.wav"]["reason"] == "changed"
    msfser(home, *PREDICT, code=3)
    lines = read_ledger(home / "x.parquet")
    assert (lines["0.wav"]["reason"], lines["0.wav"]["sha256"]) == (None, lines["1.wav"]["sha256"])


def test_a_store_that_refuses_or_is_gone_ends_the_run(
    msfser: Program, home: Path, store: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.before = lambda request: 403
    refused = msfser(home, *PREDICT, code=7)
    assert "s3://archive/show: cannot be listed (AWS Error ACCESS_DENIED" in refused.stderr
    assert "check the address, the network and your credentials" in refused.stderr
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    gone = msfser(home, *PREDICT, code=7)
    assert "s3://archive/show: cannot be listed (AWS Error NETWORK_CONNECTION" in gone.stderr
    assert not (home / "x.parquet").exists()


def test_a_store_that_goes_while_it_is_read_ends_the_run(msfser: Program, home: Path, store: S3) -> None:
    for i in range(30):
        store.put(f"show/{i:02d}.wav", (home / "show/0.wav").read_bytes())
    store.before = lambda request: 403 if request.startswith("GET show/") else None
    done = msfser(home, *PREDICT, code=7)
    assert "recordings in a row failed" in done.stderr
    store.before = lambda request: None
    msfser(home, *PREDICT, code=3)
    assert sum(line["status"] == "done" for line in read_ledger(home / "x.parquet").values()) == 33


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_is_stopped_while_it_copies(home: Path, store: S3, number: signal.Signals) -> None:
    def wait(request: str) -> None:
        if request == "GET show/1.wav" and process.poll() is None:
            process.send_signal(number)
            time.sleep(2)

    store.before = wait
    process = subprocess.Popen([*AFRESH, *PREDICT], cwd=home, env={**os.environ, "MSFSER_JOBS": "0"}, stderr=subprocess.PIPE)
    process.communicate()
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    store.before = lambda request: None
    store.reads()
    run_afresh(home, *PREDICT, code=3)
    assert {name: line["reason"] for name, line in read_ledger(home / "x.parquet").items() if line["reason"]} == {
        "page.mp3": "not_audio"}  # fmt: skip
    assert {path.suffix for path in home.iterdir() if path.name.startswith(".")} == {".seen"}
