"""What a file can do to the process that decodes it, and what that costs: one recording."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from kit.decoders import end_decoders
from msfser_cli.errors import RecordingError, ResourceError
from msfser_cli.store import audio, decoder, decoding
from msfser_cli.store.audio import decode, file_sha256

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
PROGRAM = """import sys, pathlib
sys.path[:] = [p for p in sys.path if p]
from msfser_cli.store import audio
{}"""


@pytest.fixture
def short(tmp_path: Path) -> Path:
    sf.write(tmp_path / "short.wav", np.full(160, 0.25, np.float32), 16_000)
    return tmp_path / "short.wav"


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """Some seconds' work for a decoder: silence, and at the end a sample of 0.5."""
    with sf.SoundFile(tmp_path / "long.flac", "w", 16_000, 1) as file:
        for minute in range(180):
            file.write(np.zeros(16_000 * 60 - 1, np.float32))
            file.write(np.full(1, 0.5 if minute == 179 else 0, np.float32))
    return tmp_path / "long.flac"


@pytest.fixture
def killing(request: pytest.FixtureRequest) -> Iterator[list[int]]:
    """Sends a signal to so many of this process's decoders while they work: those that were met."""
    number, count = request.param
    met: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while not over.is_set() and len(met) < count:
            for child in decoders(os.getpid()):
                if child not in met and busy(child):
                    met.append(child)
                    os.kill(child, number)
            time.sleep(0.005)

    thread = threading.Thread(target=kill)
    thread.start()
    yield met
    over.set()
    thread.join()


def decoders(of: int) -> list[int]:
    """The decoders that a process has started; other tests' processes may be its children, too."""
    found = [int(c) for task in Path(f"/proc/{of}/task").iterdir() for c in (task / "children").read_text().split()]
    return [child for child in found if is_decoder(child)]


def is_decoder(process: int) -> bool:
    try:
        return b"msfser_cli.store.decoding" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def busy(process: int) -> bool:
    """Whether it is a decoder that has written some of the recording."""
    try:
        links = {link.readlink().name: link.stat().st_size for link in Path(f"/proc/{process}/fd").iterdir()}
        written = any(size for name, size in links.items() if name.endswith(" (deleted)"))
        return is_decoder(process) and "long.flac" in links and written
    except OSError:
        return False


@pytest.mark.parametrize("killing", [(signal.SIGSEGV, 2), (signal.SIGABRT, 2), (signal.SIGKILL, 2)], indirect=True)
def test_a_decoder_that_crashes_is_one_failed_recording(short: Path, long: Path, killing: list[int]) -> None:
    decode(short)
    with pytest.raises(RecordingError, match=r"decoder_crashed: the decoder crashed \(SIG"):
        decode(long)
    assert len(killing) == 2
    assert len(decode(short).samples) == 160


@pytest.mark.slow
@pytest.mark.parametrize("killing", [(signal.SIGSEGV, 1)], indirect=True)
def test_what_an_earlier_recording_did_to_the_decoder_is_not_held_against_a_later_one(
    short: Path, long: Path, killing: list[int]
) -> None:
    decode(short)
    found = decode(long)
    assert found.duration == 180 * 60
    assert found.samples[-2:] == pytest.approx([0, 0.5], abs=0.01)
    assert len(killing) == 1


def test_a_decoder_that_takes_too_long_is_ended(short: Path, long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "GRACE_S", -180 * 60 / 4 + 0.05)  # what it decodes earns it more than it takes
    with pytest.raises(RecordingError, match="timeout"):
        decode(long)
    monkeypatch.undo()
    assert len(decode(short).samples) == 160


def test_memory_is_bounded(short: Path) -> None:
    end_decoders()  # those of other tests
    decode(short)
    [process] = decoders(os.getpid())
    limits = Path(f"/proc/{process}/limits").read_text().splitlines()
    [line] = [line for line in limits if line.startswith("Max address space")]
    assert line.split()[3:5] == [str(decoder.MEMORY_BYTES)] * 2
    [line] = [line for line in limits if line.startswith("Max core file size")]  # a crash costs no disk either
    assert line.split()[4:6] == ["0", "0"]


def test_a_process_that_has_less_memory_still_decodes(short: Path) -> None:
    work = """import resource
resource.setrlimit(resource.RLIMIT_AS, (800 << 20, 800 << 20))
print(len(audio.decode(pathlib.Path(sys.argv[1])).samples))"""
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(work), str(short)], capture_output=True, text=True, check=True)
    assert done.stdout == "160\n"


def test_a_decoder_that_cannot_start_is_the_machines_fault(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end_decoders()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ResourceError, match="does not start"):
        decode(short)
    monkeypatch.undo()
    assert len(decode(short).samples) == 160


@pytest.mark.slow
def test_a_file_that_failed_ends_the_process_and_so_do_many(short: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    decode(short)
    first = decoders(os.getpid())
    with pytest.raises(RecordingError, match="not_audio"):
        decode(tmp_path / "bad.wav")
    decode(short)
    second = decoders(os.getpid())
    assert len(first) == len(second) == 1
    assert first != second
    for _ in range(decoding.RECORDINGS):
        decode(short)
    assert decoders(os.getpid()) not in ([], second)


def test_a_fork_has_a_decoder_of_its_own(short: Path) -> None:
    decode(short)
    child = os.fork()
    if child == 0:
        os._exit(0 if len(decode(short).samples) == 160 and audio._idle[-1].end() == -signal.SIGKILL else 1)
    assert len(decode(short).samples) == 160
    assert os.waitpid(child, 0)[1] == 0
    assert len(decode(short).samples) == 160


def test_a_decoder_ends_with_its_run(long: Path, tmp_path: Path) -> None:
    work = "audio.decode(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))"
    run = subprocess.Popen([sys.executable, "-c", PROGRAM.format(work), str(long), str(tmp_path / "out.parquet")])
    while not (found := [child for child in decoders(run.pid) if busy(child)]):
        assert run.poll() is None
        time.sleep(0.01)
    run.kill()
    run.wait()
    while busy(found[0]):  # else the test never ends
        time.sleep(0.01)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["long.flac"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_for_the_run_and_not_for_its_decoder(short: Path, number: signal.Signals) -> None:
    """A terminal sends it to both."""
    before = signal.signal(number, lambda *_: None)  # whoever started the tests in the background may have had it ignored
    try:
        end_decoders()
        decode(short)
        [process] = decoders(os.getpid())
        os.kill(process, number)
        assert len(decode(short).samples) == 160
        assert decoders(os.getpid()) == [process]
    finally:
        signal.signal(number, before)


def test_nothing_is_imported_from_the_working_directory(short: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("av", "numpy", "json", "socket", "msfser_cli"):
        (folder / f"{name}.py").write_text("open('canary', 'w')")
    run = [sys.executable, "-c", PROGRAM.format("print(len(audio.decode(pathlib.Path(sys.argv[1])).samples))"), str(short)]
    done = subprocess.run(run, cwd=folder, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("160\n", "")
    assert not (folder / "canary").exists()


def test_no_room_for_the_samples_is_the_machines_fault(long: Path) -> None:
    work = """import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 22, 1 << 22))
try:
    audio.decode(pathlib.Path(sys.argv[1]))
except audio.ResourceError as error:
    print(error)"""
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(work), str(long)], capture_output=True, text=True, check=True)
    assert "larger than this system or process may write" in done.stdout


def test_a_hole_of_any_size_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "hole.wav").open("wb") as file:
        file.truncate(audio.MAX_BYTES + 1)
    for read in (decode, file_sha256):
        with pytest.raises(RecordingError, match="too_large"):
            read(tmp_path / "hole.wav")


def test_stretches_of_a_recording_on_disk(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-1, 1, 1000), 16_000, subtype="FLOAT")
    found = decode(tmp_path / "a.wav").samples
    samples = found[:]
    ends = [(None, None), (10, 20), (-5, None), (990, 2000), (7, 3), (0, 100, 7), (2000, 3000)]
    for stretch in (slice(*end) for end in ends):
        np.testing.assert_array_equal(found[stretch], samples[stretch])
    found[:][0] = 1.0  # its own memory, to be changed at will
    np.testing.assert_array_equal(found[:], samples)
