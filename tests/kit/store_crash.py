"""A run that is killed at every operation in turn, or every n-th; then run again and compared.

    python store_crash.py first|update|redo|redo-unexchanged|prune x.parquet|x/ FOLDER N

Prints how many runs were stopped. Each run is a fork of this process, which does nothing else and has no threads.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from kit.store_rows import COLUMNS, LINEAGE, expected, ledger_of, make_line, make_rows, names_in, table_of, told
from msfser_cli.store import arrow, atomic
from msfser_cli.store import layout as layouts
from msfser_cli.store.output import Output

BEFORE = {"a": (3, 0), "b": (2, 0), "c": (4, 0), "d": (0, 0), "e": (1, 0), "f": (2, 0)}
"""The recordings of a scenario: how many rows, and the seed of their content."""

SCENARIOS: dict[str, dict[str, tuple[int, int]]] = {
    "first": BEFORE,
    # b changes, c falls silent, d is found to speak, and two are new
    "update": BEFORE | {"b": (5, 1), "c": (0, 1), "d": (2, 1), "aa": (3, 0), "z": (1, 0)},
    "redo": {"a": (2, 2), "c": (1, 2), "g": (3, 2)},
    # the same where the file system cannot exchange two folders
    "redo-unexchanged": {"a": (2, 2), "c": (1, 2), "g": (3, 2)},
    # b and d are gone, e changes, and one is new
    "prune": {"a": (3, 0), "c": (4, 0), "e": (2, 1), "ee": (1, 0), "f": (2, 0)},
}
STOPPABLE = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "os.listdir", "os.scandir"}


def do(out: str, recordings: dict[str, tuple[int, int]], *, redo: bool = False) -> None:
    """One run over `recordings`, with a part for every two, that drops all others."""
    lineage = replace(LINEAGE, fingerprint="second") if redo else LINEAGE
    with Output.open(out, COLUMNS, lineage, redo=redo) as output:
        added = 0
        for recording_id, (count, seed) in recordings.items():
            if output.done_key(recording_id) != f"key{seed}":
                rows = make_rows(recording_id, count, seed)
                output.add(make_line(recording_id, rows, seed), rows)
                added += 1
                if added % 2 == 0:
                    output.commit()
        output.drop(output.recordings - recordings.keys())
        output.publish()


def forked(work: Callable[[], None]) -> int:
    """The wait status of a fork that does `work`."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitpid(child, 0)[1]


def killed(number: int, folder: str, work: Callable[[], None]) -> None:
    """Do `work`, and be killed before the `number`-th operation below `folder`, if there are so many."""
    count = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        if event in STOPPABLE and folder in str(args[0]):
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    work()


def readers_are_served(out: str, old: dict[str, Any], new: dict[str, Any], *, at_once: bool) -> None:
    """At any moment each recording has its old rows or its new ones. In one file, and in a folder that is first written or starts
    over, all are old or all are new."""
    if not Path(out).exists() or not (found := list(Path(out).glob("*.parquet")) if out.endswith("/") else [out]):
        assert not old
        return
    assert found
    table = table_of(out)
    if at_once:
        assert table in (old, new)
    for recording_id, rows in table.items():
        assert rows in (old.get(recording_id), new.get(recording_id))
    assert not old.keys() & new.keys() - table.keys()


def main(scenario: str, layout: str, where: str, every: str) -> None:
    """Run the scenario until it was killed at every `every`-th operation."""
    layouts.FILE_BYTES = 300  # a folder has several files
    arrow.to_rows(arrow.to_table(make_rows("a", 5), COLUMNS))  # what pyarrow loads at first use, once for all forks
    home = Path(where)
    recordings, redo = SCENARIOS[scenario], scenario.startswith("redo")
    if scenario == "redo-unexchanged":
        atomic._RENAME_EXCHANGE = 1 << 30  # no such flag
    base, clean = home / "base", home / "clean"
    base.mkdir(parents=True)
    if scenario != "first":
        assert forked(lambda: do(f"{base}/{layout}", BEFORE)) == 0
    shutil.copytree(base, clean)
    assert forked(lambda: do(f"{clean}/{layout}", recordings, redo=redo)) == 0
    assert not layout.endswith("/") or len(list(Path(f"{clean}/{layout}").iterdir())) > 1

    trial_folder = home / "trial"
    out = f"{trial_folder}/{layout}"
    old, new = expected({} if scenario == "first" else BEFORE), expected(recordings)
    lines = {name: told(make_line(name, make_rows(name, count, seed), seed)) for name, (count, seed) in recordings.items()}

    def check_and_finish() -> None:
        if scenario != "redo-unexchanged" or Path(out).exists():
            readers_are_served(out, old, new, at_once=not layout.endswith("/") or redo or scenario == "first")
        if scenario == "prune" and number % 2:
            # Another command may come first, that drops nothing: what it leaves must belong together.
            with Output.open(out, COLUMNS, LINEAGE) as output:
                output.publish()
            spoken = {name: line["utterances"] for name, line in ledger_of(out).items() if line["utterances"]}
            assert spoken == {name: len(rows) for name, rows in table_of(out).items()}
        do(out, recordings, redo=redo)
        assert table_of(out) == new
        assert ledger_of(out) == lines
        if layout.endswith("/"):  # how the rows are spread over parts may differ
            assert {name for name in names_in(trial_folder) if "part-" not in name} == {"x", "x.recordings.parquet"}
        else:
            assert names_in(trial_folder) == names_in(clean)

    stopped = 0
    for number in range(1, 1000, int(every)):
        shutil.copytree(base, trial_folder)
        status = forked(partial(killed, number, str(trial_folder), partial(do, out, recordings, redo=redo)))
        if status == 0:
            break  # there is no operation of this number
        assert status == signal.SIGKILL, status
        assert forked(check_and_finish) == 0, f"{scenario} {layout}: killed at {number}"
        shutil.rmtree(trial_folder)
        stopped += 1
    print(stopped)


if __name__ == "__main__":
    main(*sys.argv[1:])
