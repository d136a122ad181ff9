"""Shards, joined: the table of one run over the whole corpus, or a refusal that says why."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.store_rows import LINEAGE, expected, ledger_of, make_line, names_in, plain
from msfser_cli import schemas
from msfser_cli.errors import MsfserError, OutputHeldError, ResourceError, TableError, UsageError
from msfser_cli.store import join as join_module
from msfser_cli.store import layout, merge, tables
from msfser_cli.store.join import join
from msfser_cli.store.ledger import ledger_path
from msfser_cli.store.lineage import Lineage
from msfser_cli.store.lock import held
from msfser_cli.store.output import Output
from msfser_cli.store.shard import Shard

OF = 3
WORK = replace(LINEAGE, stage="transcribe", extra={})
COLUMNS = schemas.columns_through("transcribe")
NAMES = [f"r{i:02d}" for i in range(20)]

Recordings = dict[str, tuple[int, int]]
CORPUS: Recordings = {name: (i % 4, 0) for i, name in enumerate(NAMES)}
"""Recordings: how many rows each has, and the seed of their content."""


def rows_of(recording_id: str, count: int, seed: int) -> list[dict[str, Any]]:
    empty = {"string": "", "float64": 0.5, "int64": 1, "bool": False}
    row = {c.name: None if c.nullable else empty.get(c.type, []) for c in COLUMNS}
    row["recording_id"] = recording_id
    return [row | {"utterance_id": f"{recording_id}#{i}", "text": f"{seed} {i}"} for i in range(count)]


def run(out: str, recordings: Recordings, shard: Shard | None = None, lineage: Lineage = WORK, *, prune: bool = False) -> None:
    """A run over the recordings, or those of a shard."""
    if shard:
        recordings = {name: value for name, value in recordings.items() if shard.has(name)}
        lineage = replace(lineage, extra=lineage.extra | shard.extra)
    with Output.open(out, COLUMNS, lineage) as output:
        for name, (count, seed) in recordings.items():
            if output.done_key(name) != f"key{seed}":
                rows = rows_of(name, count, seed)
                output.add(make_line(name, rows, seed), rows)
        if prune:
            output.drop(output.recordings - recordings.keys())
        output.publish()


def run_all(folder: Path, recordings: Recordings, end: str = "/", *, of: int = OF, **more: Any) -> list[str]:
    """The outputs of all shards."""
    outs = [f"{folder}/shard-{number}{end}" for number in range(of)]
    for number, out in enumerate(outs):
        run(out, recordings, Shard(number, of), **more)
    return outs


def bytes_of(out: str) -> dict[str, bytes]:
    files = [*tables.files(Path(out)), ledger_path(out)]
    return {file.name: file.read_bytes() for file in files}


@pytest.fixture(params=["/", ".parquet"])
def end(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_shards_have_each_recording_once() -> None:
    names = [f"folder/{i}.wav" for i in range(3000)]
    for of in (1, 2, 7):
        shards = [[name for name in names if Shard(number, of).has(name)] for number in range(of)]
        assert sorted(name for shard in shards for name in shard) == sorted(names)
        assert min(map(len, shards)) > 3000 / of * 0.8
    # by its definition, which must not change: shards of two versions must not overlap
    places = [number for name in ("a.wav", "b/ü.wav") for number in range(1000) if Shard(number, 1000).has(name)]
    assert places == [708, 22]


@pytest.mark.parametrize("text", ["", "1", "3/3", "-1/3", "0/0", "1/-3", "a/b", "0/3/4", " 0/3", "0 / 3", "0.0/3", "٠/3"])
def test_nonsense_is_not_a_shard(text: str) -> None:
    with pytest.raises(UsageError, match="--shard takes I/N, with I from 0 to N-1"):
        Shard.parse(text)


@pytest.mark.parametrize("target", ["x.parquet", "x/"])
def test_joined_shards_are_the_table_of_one_run(tmp_path: Path, end: str, target: str) -> None:
    outs = run_all(tmp_path, CORPUS, end)
    run(f"{tmp_path}/one/{target}", CORPUS)
    before = {out: bytes_of(out) for out in outs}
    counts = join([outs[2], outs[0], outs[1]], f"{tmp_path}/two/{target}")
    assert counts["recordings"] == 20
    assert counts["utterances"] == sum(count for count, _ in CORPUS.values())
    assert bytes_of(f"{tmp_path}/one/{target}") == bytes_of(f"{tmp_path}/two/{target}")
    assert names_in(tmp_path / "one") == names_in(tmp_path / "two")
    assert {out: bytes_of(out) for out in outs} == before

    inodes = [p.stat().st_ino for p in (tmp_path / "two").rglob("*")]
    run(f"{tmp_path}/two/{target}", CORPUS)  # a run over the whole corpus has nothing to do
    assert [p.stat().st_ino for p in (tmp_path / "two").rglob("*")] == inodes


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 7), max_size=8), min_size=1,
                max_size=3), st.sampled_from([1, 2, 5]))  # fmt: skip
@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shards_of_any_history_join(new_folder: Callable[[], Path], history: list[dict[str, int]], of: int) -> None:
    folder = new_folder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "FILE_BYTES", 1500)
        patch.setattr(merge, "MOST_OPEN", 2)
        last: Recordings = {}
        for seeds in history:
            last |= {name: (seed % 4, seed) for name, seed in seeds.items()}
            outs = run_all(folder, last, of=of)
            join(outs, f"{folder}/joined/")
        run(f"{folder}/one/x.parquet", last)
        join(outs, f"{folder}/joined.d/x.parquet")
        run(f"{folder}/again/joined/", last)
    assert bytes_of(f"{folder}/one/x.parquet") == bytes_of(f"{folder}/joined.d/x.parquet")
    assert [v for k, v in bytes_of(f"{folder}/joined/").items() if k.startswith("part-")] == [
        v for k, v in bytes_of(f"{folder}/again/joined/").items() if k.startswith("part-")]  # fmt: skip
    assert not [name for name in names_in(folder) if ".tmp-" in name or name.endswith((".lock", ".parts"))]


def test_shards_grow_and_are_joined_again(tmp_path: Path) -> None:
    out = f"{tmp_path}/joined/"
    join(run_all(tmp_path, dict(list(CORPUS.items())[:12])), out)
    changed = CORPUS | {"r01": (3, 1)}
    outs = run_all(tmp_path, changed)
    assert join(outs, out)["recordings"] == 20
    assert set(ledger_of(out)) == set(CORPUS)
    texts = {name: [row["text"] for row in rows] for name, rows in tables.iter_recordings(Path(out), COLUMNS)}
    assert texts == {name: [f"{seed} {i}" for i in range(count)] for name, (count, seed) in changed.items() if count}


def test_what_no_shard_has_stays_until_it_is_pruned(tmp_path: Path) -> None:
    out = f"{tmp_path}/joined.parquet"
    outs = run_all(tmp_path, CORPUS)
    join(outs, out)
    before = bytes_of(out)
    run_all(tmp_path, dict(list(CORPUS.items())[2:]), prune=True)
    with pytest.raises(UsageError, match=r"has 2 recordings that no shard has, such as r00; remove them with --prune"):
        join(outs, out)
    assert bytes_of(out) == before
    assert join(outs, out, prune=True)["recordings"] == 18


def test_an_output_keeps_its_shard(tmp_path: Path, end: str) -> None:
    out = f"{tmp_path}/x{end}"
    run(out, CORPUS, Shard(0, 3))
    before = bytes_of(out)
    for other, words in ((Shard(1, 3), "shard 1/3"), (Shard(0, 2), "shard 0/2"), (None, "the whole corpus")):
        with pytest.raises(UsageError, match=f"holds shard 0/3, and this run is for {words}; choose another --out"):
            run(out, CORPUS, other)
    run(f"{tmp_path}/y{end}", CORPUS)
    with pytest.raises(UsageError, match="holds the whole corpus, and this run is for shard 0/3"):
        run(f"{tmp_path}/y{end}", CORPUS, Shard(0, 3))
    assert bytes_of(out) == before


OTHER = replace(WORK, fingerprint="second", settings={"transcribe": {"model": "large"}}, models={"base": "sha256:11"})
OLDER = replace(WORK, fingerprint="third", schema_version=3)


def lose(path: str) -> None:
    ledger_path(path).unlink()


def swap(path: str) -> None:
    shutil.copy(ledger_path(path.replace("shard-1", "shard-2")), ledger_path(path))


def leave(path: str) -> None:
    with Output.open(path, COLUMNS, replace(WORK, extra=Shard(1, OF).extra)) as output:
        output.add(make_line("r02", rows_of("r02", 1, 5), 5), rows_of("r02", 1, 5))


def flip(path: str) -> None:
    file = tables.files(Path(path))[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)


def again(lineage: Lineage) -> Callable[[str], None]:
    def change(path: str) -> None:
        for file in (*tables.files(Path(path)), ledger_path(path)):
            file.unlink()
        run(path, CORPUS, Shard(1, OF), lineage)

    return change


def number_of(of: int, number: int = 1) -> Callable[[str], None]:
    def change(path: str) -> None:
        for file in (*tables.files(Path(path)), ledger_path(path)):
            file.unlink()
        run(path, CORPUS, Shard(number, of))

    return change


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lose, TableError, ["shard-1", "its ledger shard-1.recordings.parquet is missing"]),
        (swap, TableError, ["shard-1", "does not match its ledger"]),
        (leave, TableError, ["shard-1", "has work that is not published", "run its shard again"]),
        (flip, TableError, ["damaged"]),
        (again(OTHER), UsageError, ["shard-1", "made with other settings", "transcribe.model: base, now large",
                                    "model base: sha256:00, now sha256:11"]),
        (again(OLDER), UsageError, ["schema 4, now 3"]),
        (again(replace(WORK, corpus_root="elsewhere")), UsageError, ["made from elsewhere", "from corpus"]),
        (again(replace(WORK, stage="emphasize")), UsageError, ["`emphasize`", "`transcribe`"]),
        (number_of(4), UsageError, ["holds shard 0/3", "shard 1/4"]),
        (number_of(OF, 2), UsageError, ["shard-1", "shard-2", "both hold shard 2/3"]),
    ],
)  # fmt: skip
def test_what_does_not_belong_together_is_refused(
    tmp_path: Path, end: str, change: Callable[[str], None], kind: type[MsfserError], words: list[str]
) -> None:
    outs = run_all(tmp_path, CORPUS, end)
    change(outs[1])
    with pytest.raises(kind) as refused:
        join(outs, f"{tmp_path}/joined{end}")
    assert all(word in str(refused.value) for word in words), refused.value
    assert not [name for name in names_in(tmp_path) if "joined" in name]


def test_all_shards_must_be_there(tmp_path: Path) -> None:
    outs = run_all(tmp_path, CORPUS, of=5)
    with pytest.raises(UsageError, match=r"shards 1/5, 3/5 missing; run and name the outputs of all 5 shards"):
        join([outs[0], outs[2], outs[4]], f"{tmp_path}/joined/")
    with pytest.raises(UsageError, match="both hold shard 0/5"):
        join([*outs, outs[0]], f"{tmp_path}/joined/")
    with pytest.raises(TableError, match="no such file or folder; run its shard first"):
        join([*outs[:4], f"{tmp_path}/not-here/"], f"{tmp_path}/joined/")
    run(f"{tmp_path}/whole/", CORPUS)
    with pytest.raises(UsageError, match="not the output of a run with --shard"):
        join([*outs, f"{tmp_path}/whole/"], f"{tmp_path}/joined/")


def test_a_shard_whose_run_was_stopped_early_is_refused(tmp_path: Path) -> None:
    outs = run_all(tmp_path, CORPUS)
    work = replace(WORK, extra=Shard(1, OF).extra)
    with Output.open(outs[1], COLUMNS, work) as output:
        output.publish(unfinished=True)
    with pytest.raises(TableError, match=r"stopped before it had tried all recordings; run its shard again until it ends"):
        join(outs, f"{tmp_path}/joined/")
    with Output.open(outs[1], COLUMNS, work) as output:
        output.publish()
    join(outs, f"{tmp_path}/joined/")


def test_a_recording_of_another_shard_is_refused(tmp_path: Path) -> None:
    outs = run_all(tmp_path, CORPUS)
    strange = next(name for name in NAMES if not Shard(1, OF).has(name))
    with Output.open(outs[1], COLUMNS, replace(WORK, extra=Shard(1, OF).extra)) as output:
        output.add(make_line(strange, []))
        output.publish()
    with pytest.raises(TableError, match=f"has {strange}, which is not of shard 1/3"):
        join(outs, f"{tmp_path}/joined/")


def test_an_output_of_other_work_is_refused(tmp_path: Path, end: str) -> None:
    outs = run_all(tmp_path, CORPUS, end)
    out = f"{tmp_path}/joined{end}"
    run(out, CORPUS, lineage=OTHER)
    before = bytes_of(out)
    with pytest.raises(UsageError, match="made with other settings"):
        join(outs, out)
    with pytest.raises(UsageError, match="holds shard 0/3, and this run is for the whole corpus"):
        join(outs, outs[0])
    assert bytes_of(out) == before
    unfinished = f"{tmp_path}/unfinished{end}"
    with Output.open(unfinished, COLUMNS, WORK) as output:
        output.add(make_line("r00", []))
    with pytest.raises(UsageError, match="has work that is not published"):
        join(outs, unfinished)
    with held(Path(f"{tmp_path}/joined.parquet")), pytest.raises(OutputHeldError):
        join(outs, out)


def test_a_shard_that_is_written_meanwhile_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outs = run_all(tmp_path, CORPUS)
    out = f"{tmp_path}/joined/"
    join(outs, out)
    before = bytes_of(out)
    merged = join_module.merged

    def growing(*arguments: Any) -> Any:
        yield from merged(*arguments)
        run(outs[1], {f"s{i}": (2, 0) for i in range(9)}, Shard(1, OF))

    monkeypatch.setattr(join_module, "merged", growing)
    with pytest.raises(TableError, match="if its shard is running, wait"):
        join(outs, out)
    assert bytes_of(out) == before
    monkeypatch.undo()
    assert join(outs, out)["recordings"] > 20


def test_a_join_that_ended_between_table_and_ledger_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    out = f"{tmp_path}/joined{end}"
    join(run_all(tmp_path, dict(list(CORPUS.items())[:9]), end), out)
    outs = run_all(tmp_path, CORPUS, end)

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("msfser_cli.store.output.write_ledger", full)
    with pytest.raises((ResourceError, OSError)):
        join(outs, out)
    monkeypatch.undo()
    with pytest.raises(UsageError, match="do not belong together"):
        run(out, CORPUS)
    join(outs, out)
    run(f"{tmp_path}/one{end}", CORPUS)
    assert list(bytes_of(out).values()) == list(bytes_of(f"{tmp_path}/one{end}").values())


def test_a_corpus_without_speech_joins(tmp_path: Path, end: str) -> None:
    outs = run_all(tmp_path, {"a": (0, 0)}, end)
    assert join(outs, f"{tmp_path}/joined{end}")["no_speech"] == 1
    assert expected({}) == plain(dict(tables.iter_recordings(Path(f"{tmp_path}/joined{end}"), COLUMNS)))
