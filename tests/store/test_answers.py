"""What servers have answered: kept when a process is killed, shared by several, and never anything but what was put there."""

from __future__ import annotations

import logging
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from msfser_cli.errors import ResourceError
from msfser_cli.store.answers import NAME, Answers

Trials = Callable[[str, int], Iterator[int]]

WRITER = """
import sys
from pathlib import Path
from msfser_cli.store.answers import Answers
answers = Answers(Path(sys.argv[1]))
for i in range(int(sys.argv[3])):
    answers.put(f"{sys.argv[2]}-{i}", f"answer {sys.argv[2]}-{i}")
    print(i, flush=True)
"""


def writer(folder: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(folder), name, str(count)], stdout=subprocess.PIPE, text=True)


def filled(folder: Path, count: int = 200) -> Answers:
    answers = Answers(folder)
    for i in range(count):
        answers.put(f"{i}", f"answer {i} " + "x" * (i % 50))
    return answers


def test_what_was_put_is_there_in_the_next_run(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "cache"
    assert Answers(folder).get("key") is None
    Answers(folder).put("key", "null")
    Answers(folder).put("other", 'a "quoted" \x00 text \u2028\n')
    Answers(folder).put("key", "new")
    assert [Answers(folder).get(key) for key in ("key", "other", "none")] == ["new", 'a "quoted" \x00 text \u2028\n', None]


@pytest.mark.process
def test_a_killed_process_loses_nothing_that_was_put(tmp_path: Path, trials: Trials) -> None:
    for seed in trials("killed while remembering answers", 4):
        chance, folder = random.Random(seed), tmp_path / str(seed)
        with writer(folder, "w", 100_000) as process:
            assert process.stdout
            for _ in range(chance.randint(1, 60)):
                said = process.stdout.readline()
            process.kill()
            said = (process.stdout.read() or said).rstrip("\n").rpartition("\n")[2]
        answers = Answers(folder)
        for i in range(int(said)):
            assert answers.get(f"w-{i}") == f"answer w-{i}"
        answers.put("w", "goes on")
        assert [path.name for path in folder.iterdir()] == [NAME]


@pytest.mark.process
def test_processes_write_at_once(tmp_path: Path) -> None:
    processes = [writer(tmp_path, name, 40) for name in "abc"]
    for process in processes:
        out, _ = process.communicate()
        assert (process.returncode, len(out.splitlines())) == (0, 40)
    answers = Answers(tmp_path)
    for name in "abc":
        for i in range(40):
            assert answers.get(f"{name}-{i}") == f"answer {name}-{i}"


@pytest.mark.parametrize("content", [b"", b"this is no database" * 100, b"SQLite format 3\x00" + bytes(5000)])
def test_what_is_no_database_is_set_aside(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / NAME).write_bytes(content)
    (tmp_path / f"{NAME}-journal").write_bytes(content)
    answers = Answers(tmp_path)
    answers.put("key", "answer")
    assert answers.get("key") == Answers(tmp_path).get("key") == "answer"
    aside = [path for path in tmp_path.iterdir() if path.suffix.startswith(".damaged-") and not path.name.endswith("-journal")]
    if content:
        [kept] = aside
        assert kept.read_bytes() == content
        [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert "damaged" in warning.getMessage()
    else:  # SQLite makes a database of an empty file
        assert not aside


def test_damage_alters_no_answer(tmp_path: Path, trials: Trials) -> None:
    whole = filled(tmp_path).path.read_bytes()
    lost = 0
    for seed in trials("bits flipped in the answers", 40):
        chance, folder = random.Random(seed), tmp_path / str(seed)
        folder.mkdir()
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 1, 3, 100])):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        if chance.random() < 0.3:
            del damaged[chance.randrange(len(damaged)) :]
        (folder / NAME).write_bytes(damaged)
        answers = Answers(folder)
        for i in range(200):
            found = answers.get(f"{i}")
            lost += found is None
            assert found in (None, f"answer {i} " + "x" * (i % 50))
    assert lost


def test_an_answer_that_was_altered_is_none(tmp_path: Path) -> None:
    answers = filled(tmp_path, 3)
    with sqlite3.connect(answers.path) as database:
        database.execute("UPDATE answers SET answer = 'a lie' WHERE key = '1'")
    database.close()
    assert Answers(tmp_path).get("1") is None
    assert Answers(tmp_path).get("2") is not None


def test_another_process_that_set_the_file_aside_is_not_undone(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"this is no database" * 100)
    late = Answers(tmp_path)
    late._file = -1  # it had opened the file that is gone
    Answers(tmp_path).put("key", "answer")
    late._set_aside(ValueError())
    assert late.get("key") == "answer"


def test_where_nothing_can_be_kept_the_work_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    answers = Answers(tmp_path / "file" / "cache")
    for _ in range(3):
        assert answers.get("key") is None
        answers.put("key", "answer")
    [warning] = caplog.records
    assert "cannot store answers" in warning.getMessage()


@pytest.mark.process
def test_a_database_that_may_not_be_written_is_read(tmp_path: Path, stoppable: int, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path, 3)
    for path in (tmp_path / NAME, tmp_path):
        path.chmod(0o555)
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    code = """
import logging, os, sys
from pathlib import Path
from msfser_cli.store.answers import Answers
os.setuid(int(sys.argv[2])) if os.geteuid() == 0 else None
logging.basicConfig(format="%(message)s")
answers = Answers(Path(sys.argv[1]))
for _ in range(3):
    answers.put("new", "answer")
    print(answers.get("2"), answers.get("new"))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(stoppable)], capture_output=True, text=True, check=True)
    tmp_path.chmod(0o755)
    assert done.stdout == f"{'answer 2 xx'} None\n" * 3
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "cannot store answers" in done.stderr


@pytest.mark.process
def test_a_full_disk_is_said_and_nothing_is_damaged(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from msfser_cli.errors import ResourceError
from msfser_cli.store.answers import Answers
answers = Answers(Path(sys.argv[1]))
answers.put("first", "answer")
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
try:
    for i in range(10_000):
        answers.put(f"{i}", "x" * 1000)
except ResourceError as error:
    print(error, i)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{tmp_path / NAME}: ")
    answers, count = Answers(tmp_path), int(done.stdout.split()[-1])
    assert count > 1
    assert [answers.get(key) for key in ("first", f"{count - 1}", f"{count}")] == ["answer", "x" * 1000, None]


def test_a_full_database_is_a_full_disk(tmp_path: Path) -> None:
    answers = filled(tmp_path, 1)
    answers._opened().execute("PRAGMA max_page_count = 3")
    with pytest.raises(ResourceError, match="full"):
        answers.put("long", "x" * 100_000)


def test_a_reader_that_stands_still_holds_nobody_up_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msfser_cli.store.answers._LONGEST_WAIT", 0.1)
    filled(tmp_path, 1)
    holder = sqlite3.connect(tmp_path / NAME, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    answers = Answers(tmp_path)
    assert answers.get("0") is None
    holder.close()
