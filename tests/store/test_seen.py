"""A file that changed is read again, however it changed and whatever its times say; one that did not is not."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit.store_rows import COLUMNS, LINEAGE, make_rows
from msfser_cli.errors import RecordingError
from msfser_cli.store import seen, tables
from msfser_cli.store.seen import Seen, content_of


@pytest.fixture(params=["in memory", "on a disk"])
def corpus(request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory,
           monkeypatch: pytest.MonkeyPatch) -> Path:  # fmt: skip
    """A folder whose file system is believed, whatever it is: nothing here writes to a mapped file."""
    folder = tmp_path if request.param == "in memory" else tmp_path_factory.mktemp("corpus")
    monkeypatch.setattr(seen, "KEEP_CHANGE_TIMES", {seen._file_system(os.path.realpath(folder))})
    return folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The content of every file that was read, in order."""
    contents: list[str] = []

    def counted(path: Path) -> tuple[str, int]:
        if path.is_file():
            contents.append(path.read_text())
        return hash_file(path)

    hash_file = seen.file_sha256
    monkeypatch.setattr(seen, "file_sha256", counted)
    return contents


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an hour later than the files believe."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 3600 * 10**9)


def digest(text: str) -> tuple[str, int]:
    return hashlib.sha256(text.encode()).hexdigest(), len(text)


def asked_for(files: Seen, name: str, path: Path) -> tuple[str, int]:
    """What a run is told of a file."""
    content = files.recall(name, path) or content_of(path)
    files.learn(name, content)
    return content.sha256, content.size_bytes


def again(out: Path, name: str, path: Path) -> tuple[str, int]:
    """What the next run is told of a file."""
    files = Seen(out)
    found = asked_for(files, name, path)
    files.save({name})
    return found


@pytest.mark.usefixtures("later")
def test_a_file_that_was_seen_is_not_read_again(corpus: Path, read: list[str]) -> None:
    path, out = corpus / "a.wav", corpus / "x.parquet"
    path.write_text("one")
    for _ in range(3):
        assert again(out, "a", path) == digest("one")
    assert read == ["one"]
    path.write_text("two")
    assert again(out, "a", path) == digest("two")
    os.utime(path)
    assert again(out, "a", path) == digest("two")
    assert again(out, "a", path) == digest("two")
    assert read == ["one", "two", "two"]
    assert sorted(p.name for p in corpus.iterdir()) == [".x.parquet.seen", "a.wav"]


def test_a_file_that_was_just_changed_is_read_again(corpus: Path, read: list[str]) -> None:
    path, out = corpus / "a.wav", corpus / "x.parquet"
    path.write_text("one")
    os.utime(path, (0, 0))
    assert again(out, "a", path) == again(out, "a", path) == digest("one")
    assert read == ["one", "one"]
    assert not (corpus / ".x.parquet.seen").exists()


@pytest.mark.usefixtures("later")
def test_a_file_system_without_times_of_change_is_not_believed(
    corpus: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = corpus / "a.wav", corpus / "x.parquet"
    path.write_text("one")
    assert again(out, "a", path) == digest("one")
    monkeypatch.setattr(seen, "KEEP_CHANGE_TIMES", {"another"})
    monkeypatch.setattr(seen, "_KEEPING", {})
    assert again(out, "a", path) == digest("one")
    assert read == ["one", "one"]


def test_the_file_system_of_a_path_is_that_of_the_deepest_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = (b"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:2 / /data rw,noatime shared:1 - vfat /dev/b rw\n"
              b"3 2 8:3 / /data/with\\040space rw - xfs /dev/c rw\n4 1 8:4 / /data rw - nfs4 host:/x rw\n")  # fmt: skip
    monkeypatch.setattr(Path, "read_bytes", lambda path: mounts)
    paths = ("/a", "/database", "/data", "/data/a", "/data/with space/a")
    assert [seen._file_system(path) for path in paths] == ["ext4", "ext4", "nfs4", "nfs4", "xfs"]


def _garbage(path: Path) -> None:
    path.write_bytes(os.urandom(1000))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = content.index(hashlib.sha256(b"one").hexdigest()[:16].encode())
    content[place] ^= 1
    path.write_bytes(content)


def _another_table(path: Path) -> None:
    tables.write_rows(path, make_rows("a", 2), COLUMNS, LINEAGE)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("damage", [Path.unlink, _garbage, _cut, _flipped, _another_table, _folder])
def test_without_its_memory_everything_is_read(corpus: Path, read: list[str], damage: Callable[[Path], None]) -> None:
    path, out = corpus / "a.wav", corpus / "x.parquet"
    path.write_text("one")
    again(out, "a", path)
    damage(corpus / ".x.parquet.seen")
    assert again(out, "a", path) == digest("one")
    assert read == ["one", "one"]
    if damage is not _folder:
        assert again(out, "a", path) == digest("one")
        assert len(read) == 2


@pytest.mark.usefixtures("later")
def test_a_file_that_changes_while_it_is_read_is_read_again(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out, hash_file = corpus / "a.wav", corpus / "x.parquet", seen.file_sha256
    path.write_text("one")

    def changing(of: Path) -> tuple[str, int]:
        found = hash_file(of)
        path.write_text("two")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(seen, "file_sha256", changing)
        assert again(out, "a", path) == digest("one")
    assert again(out, "a", path) == digest("two")


@pytest.mark.usefixtures("later")
def test_what_is_hashed_is_the_file_that_was_looked_at(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name leads to another file while it is read, and back again."""
    path, out, hash_file = corpus / "a", corpus / "x.parquet", seen.file_sha256
    for name in ("one", "two"):
        (corpus / name).write_text(name)
    path.symlink_to("one")

    def swapping(of: Path) -> tuple[str, int]:
        path.unlink()
        path.symlink_to("two")
        found = hash_file(of)
        path.unlink()
        path.symlink_to("one")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(seen, "file_sha256", swapping)
        assert again(out, "a", path) == digest("one")
    assert again(out, "a", path) == digest("one")


@pytest.mark.usefixtures("later")
def test_what_cannot_be_read_says_so_and_is_forgotten(corpus: Path, read: list[str]) -> None:
    path, out = corpus / "a.wav", corpus / "x.parquet"
    path.write_text("one")
    again(out, "a", path)
    path.rename(corpus / "b.wav")
    os.mkfifo(corpus / "pipe")
    files = Seen(out)
    for odd, reason in ((path, "missing"), (corpus, "unreadable"), (corpus / "pipe", "unreadable"), (Path("a\0b"), "missing")):
        with pytest.raises(RecordingError) as caught:
            asked_for(files, "a", odd)
        assert caught.value.reason == reason
    files.save({"a"})
    again(out, "a", corpus / "b.wav")
    assert read == ["one", "one"]


@pytest.mark.usefixtures("later")
def test_recordings_that_are_no_more_are_forgotten(corpus: Path, read: list[str]) -> None:
    out = corpus / "x.parquet"
    files = Seen(out)
    for name in ("a", "b"):
        (corpus / name).write_text(name)
        asked_for(files, name, corpus / name)
    files.save({"a", "b"})
    Seen(out).save({"a"})
    for name in ("a", "b"):
        again(out, name, corpus / name)
    assert read == ["a", "b", "b"]


class Editor:
    """Changes files at random, and knows what is in them: contents have one length, so that sizes tell little."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self._chance = chance
        self._count = 0
        self._now, self._other = folder / "now", folder / "other"  # two folders with the same names, one in use
        self._now.mkdir()
        self._other.mkdir()
        for name in ("a", "b", "c"):
            for place in (self._now, self._other):
                (place / name).write_text(self._fresh())
                os.utime(place / name, (1, 1))
        self.edits = (
            self._rewrite, self._rewrite_with_old_times, self._rename_over, self._copy_with_times, self._replace_its_inode,
            self._swap, self._swap_folders, self._swap_folders, self._retarget, self._touch, self._append, self._truncate,
            self.pause,
        )  # fmt: skip

    @property
    def paths(self) -> list[Path]:
        return [self._now / name for name in ("a", "b", "c")]

    def _fresh(self) -> str:
        self._count += 1
        return f"{self._count:08d}"

    def _one(self) -> Path:
        return self._chance.choice(self.paths)

    def _rewrite(self) -> None:
        self._one().write_text(self._fresh())

    def _rewrite_with_old_times(self) -> None:
        path = self._one()
        before = path.stat()
        path.write_text(self._fresh())
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def _rename_over(self) -> None:
        path = self._one()
        new = path.with_name("new")
        new.write_text(self._fresh())
        shutil.copystat(path, new)
        new.replace(path)

    def _copy_with_times(self) -> None:
        path = self._one()
        source = path.with_name("source")
        source.write_text(self._fresh())
        shutil.copystat(path, source)
        shutil.copy2(source, path)
        source.unlink()

    def _replace_its_inode(self) -> None:
        path = self._one()
        before = path.stat()
        path.unlink()
        path.write_text(self._fresh())  # a disk likes to give the same inode again
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def _swap(self) -> None:
        one, other = self._chance.sample(self.paths, 2)
        kept = one.with_name("kept")
        os.link(one, kept)
        other.replace(one)
        kept.replace(other)

    def _swap_folders(self) -> None:
        kept = self._now.with_name("kept")
        self._now.rename(kept)
        self._other.rename(self._now)
        kept.rename(self._other)

    def _retarget(self) -> None:
        path = self._one()
        target = path.with_name(f"target{self._fresh()}")
        target.write_text(self._fresh())
        os.utime(target, (1, 1))
        path.unlink()
        path.symlink_to(target.name)

    def _touch(self) -> None:
        os.utime(self._one(), None if self._chance.random() < 0.5 else (1, 1))

    def _append(self) -> None:
        with self._one().open("a") as file:
            file.write("!")

    def _truncate(self) -> None:
        path = self._one()
        before = path.stat()
        os.truncate(path, 4)
        with path.open("a") as file:
            file.write(self._fresh()[4:])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def pause(self) -> None:
        time.sleep(self._chance.choice((0.002, 0.02)))


def test_a_file_that_changed_is_never_believed_unchanged(
    corpus: Path, read: list[str], monkeypatch: pytest.MonkeyPatch, trials: Callable[[str, int], Iterator[int]]
) -> None:
    """With a margin of a few ticks of the clock in place of a minute, so that much is believed."""
    monkeypatch.setattr(seen, "QUIET_NS", 15 * 10**6)
    asked = 0
    for seed in trials("edits hidden from a cache", 60):
        home = corpus / str(seed)
        home.mkdir()
        chance = random.Random(seed)
        editor, files = Editor(home, chance), Seen(home / "x.parquet")
        for _ in range(12):
            if chance.random() < 0.3:
                editor.pause()
            if chance.random() < 0.1:
                files.save({"a", "b", "c"})
                files = Seen(home / "x.parquet")
            for path in editor.paths:
                asked += 1
                assert asked_for(files, path.name, path) == digest(path.read_text()), f"{seed}: {path}"
            for edit in chance.choices(editor.edits, k=chance.choice((0, 1, 1, 2))):
                edit()
        shutil.rmtree(home)
    assert 0 < len(read) < 0.9 * asked
