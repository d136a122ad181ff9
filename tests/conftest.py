"""What all tests share: the data beside the checkout, and that nothing reaches the network."""

from __future__ import annotations

import os
import runpy
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

import msfser_cli

# How long an example takes says something of the machine, and nothing of what is tested.
settings.register_profile("msfser", deadline=None)
settings.load_profile("msfser")

TESTS = Path(__file__).parent
OFFLINE = TESTS / "offline"

TRIALS = pytest.StashKey[Counter[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--trials", type=float, default=1.0, metavar="FACTOR",
                     help="so many times the usual number of trials in the tests that stop, damage and attack at random")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TRIALS] = Counter()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[TRIALS]:
        terminalreporter.section("trials")
        for family, count in sorted(config.stash[TRIALS].items()):
            terminalreporter.write_line(f"{count:8,} {family}")


@pytest.fixture
def trials(request: pytest.FixtureRequest) -> Callable[[str, int], Iterator[int]]:
    """`trials(family, count)` gives as many seeds, or more with --trials; how many a family had is said at the end."""

    def seeds(family: str, count: int) -> Iterator[int]:
        for seed in range(max(1, round(count * request.config.getoption("--trials")))):
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
    folder = Path(__file__).parents[2] / "shared" / "data"
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
