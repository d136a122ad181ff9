"""Ray actors as workers: the same table as without them, whoever is killed, and nobody works on for a run that has ended."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.crash_runs import LAYOUTS, ledger_of, leftovers
from kit.places import DOUBLES, QUICKSTART, TESTS
from kit.program import MAIN, Done, is_alive, run_afresh, wait_for
from kit.sounds import hum, speak

pytestmark = pytest.mark.process

Trials = Callable[[str, int], Iterator[int]]
KILLS, SLEEPS = 0.6, 0.7
"""The levels by which the double is told what to do."""

PARTS_OF_ONE = "from msfser_cli.store import output; output.PART_RECORDINGS = 1; " + MAIN
"""The program, which saves each recording at once."""

STRANGE = {
    "version": "import msfser_cli; msfser_cli.__version__ = '0.0'",
    "folder": "import os\ndef chdir(path): raise FileNotFoundError(path)\nos.chdir = chdir",
    "corpus": """import errno, sys
def watch(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".wav"):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", arguments[0])
sys.addaudithook(watch)""",
}
"""What a node may lack, done as its Python processes start: this version of msfser, the run's folder, the corpus."""


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """The doubles are installed on every node, which have the token of the cluster, and talk to each other alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(DOUBLES), prepend=os.pathsep)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
        pytest.importorskip("ray")  # which reads the variables above when it is imported
        from ray._private import services
        from ray.util import get_node_ip_address

        patch.setenv("MSFSER_TEST_OWN_ADDRESS", get_node_ip_address())
        patch.setattr(services, "start_api_server", lambda *_, **__: (None, None))  # it asks the network for its cloud
        patch.delenv("MSFSER_JOBS")
        yield


@contextlib.contextmanager
def nodes(count: int) -> Iterator[Any]:
    """A cluster on this machine: nodes of one processor, and with no place in /tmp/ray."""
    from ray.cluster_utils import Cluster

    Path(tempfile.gettempdir(), "ray").mkdir(exist_ok=True)  # where Ray notes the address, and fails without it
    # The names of its sockets must be short.
    with tempfile.TemporaryDirectory(prefix="msfser-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "temp_dir": folder, "include_dashboard": False})
        try:
            for _ in range(count - 1):
                cluster.add_node(num_cpus=1)
            yield cluster
        finally:
            cluster.shutdown()


@pytest.fixture(scope="module")
def cluster(environment: None) -> Iterator[Any]:
    """Two nodes. A test that adds one removes it."""
    with nodes(2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some speak, one is silent, one is junk."""
    folder = tmp_path_factory.mktemp("cluster") / "corpus"
    for i in range(14):
        hum(folder / ("more" if i % 2 else ".") / f"{i:02d}.wav", 1 + i % 3, 0.1 + i / 1000)
    hum(folder / "silent.wav", 2, 0)
    (folder / "page.mp3").write_text("<html>not here</html>")
    return folder


@pytest.fixture
def home(corpus: Path, tmp_path: Path) -> Path:
    shutil.copytree(corpus, tmp_path / "corpus")
    (tmp_path / "model").mkdir()
    return tmp_path


def command(out: str, *more: str) -> list[str]:
    return ["transcribe", "corpus", "--transcriber", "double", "--model", "model", "--out", out, *more]


def on(cluster: Any) -> list[str]:
    return ["--engine", "ray", "--ray-address", cluster.address]


def msfser(home: Path, out: str, *more: str, code: int | None = 3) -> Done:
    return run_afresh(home, *command(out, *more), code=code)


@contextlib.contextmanager
def started(home: Path, out: str, *more: str, program: str = MAIN) -> Iterator[subprocess.Popen[str]]:
    """A run in a process group of its own."""
    with subprocess.Popen([sys.executable, "-c", program, *command(out, *more)], cwd=home, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, start_new_session=True) as run:  # fmt: skip
        yield run
        run.kill()


def actors(home: Path) -> list[int]:
    """The processes of the actors of a run in `home`, which all work in it."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            works = process.name.isdecimal() and b"ray::_Actor" in (process / "cmdline").read_bytes()
            if works and (process / "cwd").resolve() == home.resolve():
                found.append(int(process.name))
    return found


def parts(home: Path) -> dict[str, bytes]:
    """What a run has saved, and not published yet."""
    return {path.name: path.read_bytes() for path in home.glob(".x.parquet.parts/*.parquet")}


@pytest.mark.parametrize("layout", [LAYOUTS[0], pytest.param(LAYOUTS[1], marks=pytest.mark.slow)])
def test_a_table_is_the_same_on_a_cluster(home: Path, cluster: Any, layout: str) -> None:
    outs = []
    for folder, where in (("alone", ["--jobs", "0"]), ("jobs", ["--jobs", "2"]), ("ray", on(cluster))):
        (home / folder).mkdir()
        assert "16 recordings: 14 done" in msfser(home, f"{folder}/{layout}", *where).stderr
        outs.append(home / folder / layout.rstrip("/"))
    first, *others = outs
    for out in others:
        files = sorted(p.relative_to(out.parent) for p in (out.rglob("*") if out.is_dir() else [out]))
        assert files
        assert all((out.parent / name).read_bytes() == (first.parent / name).read_bytes() for name in files)
        assert ledger_of(out) == ledger_of(first)
        assert not leftovers(out.parent)


@pytest.mark.slow
def test_ray_is_started_for_a_run_and_ends_with_it(home: Path) -> None:
    msfser(home, "clean.parquet", "--jobs", "0")
    there = set(Path("/tmp").glob("msfser-ray-*"))
    msfser(home, "x.parquet", "--engine", "ray")
    assert (home / "x.parquet").read_bytes() == (home / "clean.parquet").read_bytes()
    assert set(Path("/tmp").glob("msfser-ray-*")) <= there
    assert not actors(home)


@pytest.mark.slow
def test_a_signal_while_ray_starts_leaves_nothing(home: Path, trials: Trials) -> None:
    for seed in trials("stopped while Ray starts", 5):
        there = set(Path("/tmp").glob("msfser-ray-*"))
        with started(home, "x.parquet", "--engine", "ray") as run:
            wait_for(lambda: set(Path("/tmp").glob("msfser-ray-*")) > there)  # noqa: B023 - it is called at once
            time.sleep(random.Random(seed).uniform(0.0, 5.0))
            run.send_signal(signal.SIGTERM)
            _, said = run.communicate(timeout=30)
        assert run.returncode == 128 + signal.SIGTERM
        assert said.startswith("msfser: stopped by SIGTERM")
        assert set(Path("/tmp").glob("msfser-ray-*")) == there


def test_actors_are_killed_at_any_moment(home: Path, cluster: Any, trials: Trials) -> None:
    msfser(home, "clean.parquet", "--jobs", "0")
    clean, ledger = (home / "clean.parquet").read_bytes(), ledger_of(home / "clean.parquet")
    for seed in trials("actors killed", 6):
        chance = random.Random(seed)
        out = f"{seed}.parquet"
        with started(home, out, *on(cluster)) as run:
            wait_for(lambda: actors(home) or run.poll() is not None)
            time.sleep(chance.uniform(0.0, 1.5))
            killed = actors(home)[:1]
            for actor in killed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(actor, signal.SIGKILL)
            _, said = run.communicate(timeout=120)
        assert run.returncode == 3, said
        assert ((home / out).read_bytes(), ledger_of(home / out)) == (clean, ledger), seed
        assert not leftovers(home)


@pytest.mark.slow
def test_a_node_is_lost(home: Path, cluster: Any, trials: Trials) -> None:
    """The others do what its actor had in hand, although no other can take its place."""
    msfser(home, "clean.parquet", "--jobs", "0")
    clean, ledger = (home / "clean.parquet").read_bytes(), ledger_of(home / "clean.parquet")
    for seed in trials("nodes lost", 4):
        out = f"{seed}.parquet"
        node = cluster.add_node(num_cpus=1)
        with started(home, out, *on(cluster), "--jobs", "3") as run:
            wait_for(lambda: len(actors(home)) == 3)
            time.sleep(random.Random(seed).uniform(0.0, 0.5))
            cluster.remove_node(node, allow_graceful=False)
            _, said = run.communicate(timeout=120)
        assert run.returncode == 3, said
        ending = rf"a worker process ended (while it loaded the models )?\((on node {socket.gethostname()}: )?its (node|process) "
        assert re.search(ending, said), said
        assert ((home / out).read_bytes(), ledger_of(home / out)) == (clean, ledger), seed
        assert not leftovers(home)


@pytest.mark.slow
def test_a_recording_that_ends_its_workers_fails_alone(home: Path, cluster: Any) -> None:
    speak(home / "corpus" / "kills.wav", level=KILLS)
    done = msfser(home, "x.parquet", *on(cluster))
    ledger = ledger_of(home / "x.parquet")
    assert ledger["kills.wav"]["reason"] == "worker_died"
    assert sum(line["status"] == "failed" for line in ledger.values()) == 2
    assert done.stderr.count(f"(on node {socket.gethostname()}: its process was killed) with kills.wav in hand") == 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_and_its_actors(home: Path, cluster: Any, number: signal.Signals) -> None:
    """A second run is told who is the first meanwhile."""
    speak(home / "corpus" / "zz.wav", level=SLEEPS)
    with started(home, "x.parquet", *on(cluster)) as run:
        wait_for((home / "asleep").exists)
        assert f"process {run.pid} on " in msfser(home, "x.parquet", *on(cluster), code=6).stderr
        working = actors(home)
        assert working
        os.killpg(run.pid, number)
        _, said = run.communicate(timeout=30)
    assert run.returncode == 128 + number
    assert said.splitlines()[-1] == (f"msfser: stopped by {number.name}; finished work is kept, and the same command continues "
                                     "from there")  # fmt: skip
    wait_for(lambda: not any(map(is_alive, working)), 10.0)


@pytest.mark.slow
def test_a_run_that_is_killed_takes_its_actors_along(home: Path, cluster: Any, trials: Trials) -> None:
    msfser(home, "clean.parquet", "--jobs", "0")
    for seed in trials("runs with actors killed", 3):
        speak(home / "corpus" / "zz.wav", level=SLEEPS)
        (home / "asleep").unlink(missing_ok=True)
        with started(home, "x.parquet", *on(cluster), program=PARTS_OF_ONE) as run:
            wait_for(lambda: (home / "asleep").exists() and len(parts(home)) > 2)
            working = actors(home)
            assert working
            time.sleep(random.Random(seed).uniform(0.0, 1.0))
            run.kill()
            run.wait()
            wait_for(lambda: not any(map(is_alive, working)), 10.0)  # noqa: B023 - it is called at once
        saved = len(parts(home))
        (home / "corpus" / "zz.wav").unlink()
        done = json.loads(msfser(home, "x.parquet", *on(cluster), "--json").stdout)
        assert done["unchanged"] == saved
        assert (home / "x.parquet").read_bytes() == (home / "clean.parquet").read_bytes()
        assert not leftovers(home)
        for path in home.glob("x.*"):
            path.unlink()


@pytest.mark.slow
def test_the_head_of_the_cluster_is_lost(home: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    msfser(home, "clean.parquet", "--jobs", "0")
    speak(home / "corpus" / "zz.wav", level=SLEEPS)
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")
    with nodes(1) as short_lived, started(home, "x.parquet", *on(short_lived), program=PARTS_OF_ONE) as run:
        wait_for(lambda: (home / "asleep").exists())
        short_lived.head_node.kill_gcs_server()
        _, said = run.communicate(timeout=60)
        assert run.returncode == 7
        assert said.splitlines()[-1].startswith("msfser: the Ray cluster was lost: ")
        saved = parts(home)
        time.sleep(3)
        assert parts(home) == saved
    monkeypatch.delenv("RAY_gcs_rpc_server_reconnect_timeout_s")
    (home / "corpus" / "zz.wav").unlink()
    msfser(home, "x.parquet", *on(cluster))
    assert (home / "x.parquet").read_bytes() == (home / "clean.parquet").read_bytes()
    assert not leftovers(home)


@pytest.mark.slow
def test_a_worker_that_finds_no_room_is_reported(home: Path, cluster: Any) -> None:
    speak(home / "corpus" / "zz.wav", level=SLEEPS)
    with started(home, "x.parquet", *on(cluster), "--jobs", "3") as run:
        assert run.stderr
        warning = next(line for line in run.stderr if line.startswith("warning: "))
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=30)
    assert warning.startswith("warning: a worker has not started within 30 s: the cluster may have no room for it (1 CPU, ")


@contextlib.contextmanager
def strange_node(cluster: Any, folder: Path, what: str) -> Iterator[None]:
    """One that lacks something, and is the only one with two processors."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(STRANGE[what])
    path = os.pathsep.join(map(str, (folder, DOUBLES, TESTS)))
    node = cluster.add_node(num_cpus=2, env_vars={"PYTHONPATH": path})
    try:
        yield
    finally:
        cluster.remove_node(node)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["version", "folder"])
def test_a_node_with_another_model_or_msfser_is_named(home: Path, cluster: Any, what: str) -> None:
    with strange_node(cluster, home / "strange", what):
        said = msfser(home, "x.parquet", *on(cluster), "--worker-cpus", "2", code=5).stderr.splitlines()[-1]
    assert said.startswith(f"msfser: on node {socket.gethostname()}: ")
    assert {"version": "it has msfser 0.0, and the run has ", "folder": "model"}[what] in said


@pytest.mark.slow
def test_a_node_without_the_corpus_is_named(home: Path, cluster: Any) -> None:
    for path in (home / "corpus" / "more").iterdir():
        path.unlink()  # so few are missing that the run is not stopped
    with strange_node(cluster, home / "strange", "corpus"):
        msfser(home, "x.parquet", *on(cluster), "--worker-cpus", "2")
    ledger = ledger_of(home / "x.parquet")
    assert ledger.pop("page.mp3")["reason"] == "not_audio"
    assert len(ledger) == 8
    assert all(line["reason"] == "missing" for line in ledger.values())
    assert all(line["detail"].endswith(f" (on node {socket.gethostname()})") for line in ledger.values())
    msfser(home, "x.parquet", *on(cluster))  # where it is not missing
    assert ledger_of(home / "x.parquet")["00.wav"]["status"] == "done"


@pytest.mark.slow
def test_actors_log_through_the_run_and_too_many_wait(home: Path, cluster: Any) -> None:
    (home / "model" / "warns").touch()
    done = msfser(home, "x.parquet", *on(cluster), "--jobs", "4", "--log-format", "json")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [e["message"] for e in events if e["event"] == "warning"] == ["the double warns"]
    assert {e["message"] for e in events if e["event"] == "library"} == {"the double prints"}
    assert not done.stdout


@pytest.mark.slow
def test_what_hinders_is_said(home: Path, cluster: Any) -> None:
    small = msfser(home, "x.parquet", *on(cluster), "--worker-cpus", "64", code=7).stderr
    assert "the cluster is too small for a worker: it has nodes with at most 1 CPU, " in small
    assert "; a worker needs 64 CPU, " in small
    gone = msfser(home, "x.parquet", "--engine", "ray", "--ray-address", "127.0.0.1:1", code=7).stderr
    assert gone == "msfser: cannot reach Ray at 127.0.0.1:1 (Connection refused); is the head of the cluster running?\n"
    odd = msfser(home, "x.parquet", "--engine", "ray", "--ray-address", "somewhere", code=2).stderr
    assert "--ray-address must be HOST:PORT" in odd
    with started(home, "x.parquet", "--engine", "ray", program="import sys; sys.modules['ray'] = None; " + MAIN) as run:
        _, missing = run.communicate()
    assert (run.returncode, missing) == (2, "msfser: --engine ray needs Ray: pip install 'msfser[ray]'\n")


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_given_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        program = "from msfser_cli.runs.engines import cluster; cluster.JOIN_SECONDS = 3; " + MAIN
        with started(home, "x.parquet", "--engine", "ray", "--ray-address", f"127.0.0.1:{mute.getsockname()[1]}",
                     program=program) as run:  # fmt: skip
            _, said = run.communicate(timeout=30)
    assert run.returncode == 7
    assert said.endswith(": it took more than 3 s\n")


@pytest.mark.slow
@pytest.mark.model
def test_scores_are_the_same_on_a_cluster(tmp_path: Path, cluster: Any) -> None:
    predict = ["predict", str(QUICKSTART / "corpus"), "--profile", "mini"]
    for name, where in (("alone", ["--jobs", "0"]), ("ray", on(cluster))):
        run_afresh(tmp_path, *predict, "--out", f"{name}.parquet", *where, code=0)
    assert (tmp_path / "ray.parquet").read_bytes() == (tmp_path / "alone.parquet").read_bytes()
    assert ledger_of(tmp_path / "ray.parquet") == ledger_of(tmp_path / "alone.parquet")
