"""What all tests share: the data beside the checkout, and that nothing reaches the network."""

from __future__ import annotations

import os
import runpy
import signal
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

import msfser_cli
from kit import needs
from kit.environment import forget_settings
from kit.places import DOUBLES, GPU, OFFLINE, ROOT, TESTS
from kit.program import Nursery, Program

# How long an example takes says something of the machine, and nothing of what is tested.
settings.register_profile("brief", deadline=None, max_examples=25)
settings.register_profile("all", deadline=None)


TRIALS = pytest.StashKey[Counter[str]]()
BRIEFLY = 0.2
"""The share of the trials that a run without --all makes."""

WORKER_BYTES = 3 << 30
"""The memory that a worker may take, which holds the models that its tests load."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run every test, also those marked slow, with all their trials")
    parser.addoption("--trials", type=float, metavar="FACTOR",
                     help="so many times the usual number of trials in the tests that stop, damage and attack at random "
                     f"(default: 1 with --all, else {BRIEFLY})")
    parser.addoption("--tiny", action="store_true",
                     help="tests/gpu with tiny models, on the CPU if there is no GPU, to try these tests themselves")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TRIALS] = Counter()
    settings.load_profile("all" if config.getoption("--all") else "brief")
    for name, meaning in needs.MARKS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    config.addinivalue_line("markers", needs.ONE_IN)
    if config.getoption("numprocesses", None):
        os.environ["OMP_NUM_THREADS"] = "1"  # the workers and what they start share the cores already
    for number in (signal.SIGINT, signal.SIGHUP):  # a run in the background, or under nohup, would have its children ignore them
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker for every core that may be used, as far as there is memory; none for a run of single files, which is soon done.

    None for tests/gpu, which measure the machine.
    """
    if _names_gpu(config) or all(Path(argument.partition("::")[0]).is_file() for argument in config.args):
        return 0
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), memory // WORKER_BYTES))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """tests/gpu is collected only if it is named."""
    return True if collection_path == GPU and not _names_gpu(config) else None


def _names_gpu(config: pytest.Config) -> bool:
    named = [Path(config.invocation_params.dir, argument.partition("::")[0]).resolve() for argument in config.args]
    return any(GPU in (path, *path.parents) for path in named)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        needs.mark(item)
    out = needs.left_out(items) if _share(config) < 1 else set()
    if not config.getoption("--all"):
        out |= {item for item in items if item.get_closest_marker("slow")}
    config.hook.pytest_deselected(items=list(out))
    items[:] = [item for item in items if item not in out]
    # What takes long comes first, so that in the end no worker is left alone with it.
    items.sort(key=lambda item: item.get_closest_marker("quick") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    with needs.guarded(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    with needs.guarded(item):
        return (yield)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["trials"] = dict(session.config.stash[TRIALS])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: Any) -> None:
    node.config.stash[TRIALS].update(getattr(node, "workeroutput", {}).get("trials", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[TRIALS]:
        terminalreporter.section("trials")
        for family, count in sorted(config.stash[TRIALS].items()):
            terminalreporter.write_line(f"{count:8,} {family}")


@pytest.fixture(scope="session")
def share(request: pytest.FixtureRequest) -> float:
    """The share, or the multiple, of the usual trials that this run makes."""
    return _share(request.config)


def _share(config: pytest.Config) -> float:
    chosen: float | None = config.getoption("--trials")
    return chosen or (1.0 if config.getoption("--all") else BRIEFLY)


@pytest.fixture
def trials(request: pytest.FixtureRequest, share: float) -> Callable[[str, int], Iterator[int]]:
    """`trials(family, count)` gives `count` seeds, or the share of them that this run makes, at least one.

    How many a family had is said at the end.
    """

    def seeds(family: str, count: int) -> Iterator[int]:
        for seed in range(max(1, round(count * share))):
            request.config.stash[TRIALS][family] += 1
            yield seed

    return seeds


class Sparing:
    """Samples of which no more than a minute may be sliced at once, as if they were hours that are not in memory."""

    LONGEST = 64 * 16_000

    def __init__(self, samples: np.ndarray) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, stretch: slice) -> np.ndarray:
        sliced = self._samples[stretch]
        assert len(sliced) <= self.LONGEST, f"{len(sliced) / 16_000:.0f} s were sliced at once"
        return sliced.copy()


@pytest.fixture(scope="session")
def sparing() -> type[Sparing]:
    return Sparing


@pytest.fixture(scope="session")
def stoppable() -> int:
    """A user whom the modes of files stop: this one, or another if this is root; skipped where that may not read the program."""
    if os.geteuid() != 0:
        return os.geteuid()
    user = 65534
    child = os.fork()
    if child == 0:
        os.setuid(user)
        os._exit(0 if all(os.access(path, os.R_OK) for path in (pytest.__file__, msfser_cli.__file__, __file__)) else 1)
    if os.waitpid(child, 0)[1]:
        pytest.skip("no other user may read this environment and these tests")
    return user


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of speech and labels that may lie beside the checkout; the test is skipped where it does not."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("there is no ../shared/data beside the checkout")
    return folder


@pytest.fixture(scope="session", autouse=True)
def network_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Blocks the network, loopback aside, in the tests and in the Python processes that they start: attempts raise OSError.

    The value is a file that does not exist until something tries; if it does in the end, the run has failed.
    """
    log = tmp_path_factory.mktemp("network") / "attempts"
    runpy.run_path(str(OFFLINE / "sitecustomize.py"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSFSER_TEST_NETWORK_LOG", str(log))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(OFFLINE), str(TESTS)]), prepend=os.pathsep)
        yield log
    assert not log.exists(), f"tests tried to reach the network:\n{log.read_text()}"


@pytest.fixture(scope="session", autouse=True)
def fresh_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tests, and what they start, are of a user who has set nothing, and whose caches are empty at first."""
    with pytest.MonkeyPatch.context() as patch:
        forget_settings(patch)
        patch.setenv("MSFSER_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
        yield


@pytest.fixture
def doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doubles of the back ends are installed, here and in the processes that the test starts."""
    monkeypatch.syspath_prepend(str(DOUBLES))
    monkeypatch.setenv("PYTHONPATH", str(DOUBLES), prepend=os.pathsep)


@pytest.fixture(scope="session")
def nursery(network_log: Path, fresh_user: None) -> Iterator[Nursery]:
    """The program, ready to be started; what was started and has not ended is killed in the end."""
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def msfser(nursery: Nursery) -> Program:
    """`msfser(folder, *arguments)` runs the program, for which the doubles are installed, and returns what it said."""
    return Program(nursery)
