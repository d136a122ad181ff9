"""A corpus in shards: each is annotated by itself, and joined they are the table of one run. Real processes, quick back ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kit.doubled import make_models, options_of
from kit.program import Done, Program
from kit.sounds import hum
from msfser_cli.store import tables
from msfser_cli.store.ledger import read_ledger
from msfser_cli.store.shard import Shard

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("doubles")]

NAMES = ["more/page.mp3", "silent.wav", *(f"{'more/' if i % 2 else ''}{i}.wav" for i in range(7))]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a corpus, of which one recording is silent and one is junk, and models."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MSFSER_JOBS", "0")
    (tmp_path / "corpus" / "more").mkdir(parents=True)
    for i in range(7):
        hum(tmp_path / "corpus" / ("more" if i % 2 else ".") / f"{i}.wav", 2, 0.1 + i / 100)
    hum(tmp_path / "corpus" / "silent.wav", 2, 0)
    (tmp_path / "corpus" / "more" / "page.mp3").write_text("<html>not here</html>")
    make_models(tmp_path / "models")
    return tmp_path


def table(path: Path) -> list[bytes]:
    return [file.read_bytes() for file in tables.files(path)]


@pytest.mark.parametrize("end", [".parquet", "/"])
def test_joined_shards_are_the_table_of_one_run(msfser: Program, home: Path, end: str) -> None:
    predict = ["predict", "corpus", *options_of("chain")]
    msfser(home, *predict, "--out", f"one{end}", code=3)
    recordings = 0
    for number in range(3):
        done = msfser(home, *predict, "--out", f"{number}{end}", "--shard", f"{number}/3", "--json")
        summary = json.loads(done.stdout)
        recordings += summary["recordings"]
        assert sorted(read_ledger(f"{home}/{number}{end}")) == sorted(filter(Shard(number, 3).has, NAMES))
    assert recordings == len(NAMES)
    join = ["join", *(f"{number}{end}" for number in (2, 0, 1)), "--out", f"joined{end}"]
    done = msfser(home, *join, "--json", "--quiet", code=3)
    assert done.stderr == ""
    assert json.loads(done.stdout) == {
        "out": f"joined{end}", "ledger": "joined.recordings.parquet", "shards": 3, "recordings": 9, "done": 7, "no_speech": 1,
        "failed": 1, "incomplete": 0, "utterances": 7,
    }  # fmt: skip
    assert table(home / f"one{end}") == table(home / f"joined{end}")

    # a run over the whole corpus finds all of it, and a shard that has grown is joined again
    before = table(home / f"joined{end}")
    again = json.loads(msfser(home, *predict, "--out", f"joined{end}", "--json", code=3).stdout)
    assert again["unchanged"] == 9
    assert table(home / f"joined{end}") == before
    hum(home / "corpus" / "new.wav", 2, 0.3)
    for number in range(3):
        msfser(home, *predict, "--out", f"{number}{end}", "--shard", f"{number}/3")
    done = msfser(home, *join, "--log-format", "json", code=3)
    [event] = [json.loads(line) for line in done.stderr.splitlines()]
    assert (event["event"], event["recordings"], event["exit_code"]) == ("summary", 10, 3)
    assert done.stdout == ""


def test_a_shard_does_not_calibrate(msfser: Program, home: Path) -> None:
    (home / "labels.csv").write_text("file,valence\n0.wav,1\n2.wav,7\n")
    command = ["predict", "corpus", "--out", "x/", "--shard", "0/2", "--calibrate", "labels.csv", *options_of("chain")]
    assert "predict from the joined table with --calibrate" in msfser(home, *command, code=2).stderr


def test_later_stages_keep_the_shard(msfser: Program, home: Path) -> None:
    for number in range(2):
        msfser(home, "transcribe", "corpus", "--out", f"t{number}/", "--shard", f"{number}/2", *options_of("transcribe"))
        msfser(home, "emphasize", f"t{number}/", "--out", f"e{number}/")
    assert tables.read_lineage(home / "e1").extra["shard"] == "1/2"
    refused = msfser(home, "emphasize", "t1/", "--out", "x/", "--shard", "0/2", code=2)
    assert "--shard 0/2: the table holds shard 1/2" in refused.stderr
    refused = msfser(home, "emphasize", "t0/", "--out", "e1/", code=2)
    assert "holds shard 1/2, and this run is for shard 0/2; choose another --out" in refused.stderr
    msfser(home, "join", "e0/", "e1/", "--out", "e/", code=3)
    msfser(home, "transcribe", "corpus", "--out", "t/", *options_of("transcribe"))
    msfser(home, "emphasize", "t/", "--out", "one/", code=3)
    assert table(home / "one") == table(home / "e")
    # a table of the whole corpus can be done in shards, too
    for number in range(2):
        msfser(home, "emphasize", "t/", "--out", f"f{number}/", "--shard", f"{number}/2")
    assert [table(home / f"f{number}") for number in range(2)] == [table(home / f"e{number}") for number in range(2)]


def test_other_shards_are_not_gone(msfser: Program, home: Path) -> None:
    command = ["transcribe", "corpus", "--out", "x/", "--shard", "0/2", "--json", *options_of("transcribe")]
    of_shard = list(filter(Shard(0, 2).has, NAMES))
    summary = json.loads(msfser(home, *command, "--dry-run").stdout)
    assert summary == {"recordings": len(of_shard), "pending": sorted(of_shard), "gone": []}
    msfser(home, *command)
    (home / "corpus" / next(name for name in of_shard if name.endswith("wav"))).unlink()
    (home / "corpus" / next(name for name in NAMES if name not in of_shard)).unlink()
    summary = json.loads(msfser(home, *command, "--prune").stdout)
    assert (summary["gone"], summary["recordings"]) == (1, len(of_shard) - 1)
    assert len(read_ledger(f"{home}/x/")) == len(of_shard) - 1


def test_more_shards_than_recordings(msfser: Program, home: Path) -> None:
    outs = [f"{number}/" for number in range(23)]
    for number, out in enumerate(outs):
        msfser(home, "transcribe", "corpus", "--out", out, "--shard", f"{number}/23", *options_of("transcribe"))
    msfser(home, "join", *outs, "--out", "joined/", code=3)
    msfser(home, "transcribe", "corpus", "--out", "one/", *options_of("transcribe"))
    assert table(home / "one") == table(home / "joined")


def test_what_is_refused(msfser: Program, home: Path) -> None:
    def refused(*arguments: str) -> Done:
        done = msfser(home, *arguments)
        assert done.stdout == ""
        assert done.stderr.startswith("msfser: ")
        return done

    command = ["transcribe", "corpus", *options_of("transcribe")]
    for nonsense in ("3/3", "1", "x/y", "1/0"):
        done = refused(*command, "--shard", nonsense)
        assert (done.returncode, repr(nonsense) in done.stderr) == (2, True)
    for number in (0, 2):
        msfser(home, *command, "--out", f"{number}.parquet", "--shard", f"{number}/3")
    done = refused("join", "0.parquet", "2.parquet", "--out", "x.parquet")
    assert (done.returncode, "shard 1/3 missing" in done.stderr) == (2, True)
    msfser(home, *command, "--out", "1.parquet", "--shard", "1/3", "--max-utterance", "5")
    done = refused("join", *(f"{number}.parquet" for number in range(3)), "--out", "x.parquet")
    assert done.returncode == 2
    assert "transcribe.max_utterance: 12.0, now 5.0" in done.stderr
    done = refused("join", "0.parquet", "1.parquet", "nowhere.parquet", "--out", "x.parquet")
    assert done.returncode == 4
    assert not list(home.glob("x*"))
