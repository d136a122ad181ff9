from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kit.store_rows import names_in
from msfser_cli.errors import ResourceError, is_shortage, shortage
from msfser_cli.store import atomic
from msfser_cli.store.atomic import discard, replacing, replacing_folder, resources, sweep, sync_tree

ROOT = Path(__file__).parent.parent.parent
WRITE = """
import pathlib, resource, sys
from msfser_cli.errors import ResourceError, is_shortage, shortage
from msfser_cli.store.atomic import replacing
{before}
try:
    with replacing(pathlib.Path(sys.argv[1])) as file:
        file.write(bytes(3_000_000))
except ResourceError as error:
    print(error)
"""


def put(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content in (b"old", b"new", b""):
        put(path, content)
        assert path.read_bytes() == content
        assert names_in(tmp_path) == {"x"}


def test_nothing_is_there_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with replacing(path) as file:
        file.write(b"new")
        assert not path.exists()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "x"
    put(path, b"old")

    def write_half() -> None:
        with replacing(path) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == {"x"}


def test_the_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        put(tmp_path / "x", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_a_temporary_file_lies_beside_the_output_it_belongs_to(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with replacing(folder / "part", folder):
        assert names_in(folder) == set()
        (temporary,) = names_in(tmp_path) - {"out"}
        assert temporary.startswith(".out.tmp-")


def test_a_sweep_takes_the_outputs_own_temporaries_only(tmp_path: Path) -> None:
    stays = {"x", "x.tmp-1", ".x.lock", ".xy.tmp-1", "y", ".x.parts", ".x.seen", ".x.tmp-0123abcd.parts", ".x.tmp-1.lock"}
    for name in stays | {".x.tmp-0123abcd"}:
        (tmp_path / name).touch()
    (tmp_path / ".x.tmp-a_folder").mkdir()
    (tmp_path / ".x.tmp-a_folder" / "file").touch()
    (tmp_path / ".x.tmp-abcd_ink").symlink_to(tmp_path / "y")
    sweep(tmp_path / "x")
    assert names_in(tmp_path) == stays


def test_a_folder_is_discarded(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    (folder / "deep").mkdir(parents=True)
    (folder / "file").touch()
    for _ in range(2):
        discard(folder, tmp_path / "x")
        assert names_in(tmp_path) == set()


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool) -> None:
    if not can_exchange:  # as on some network file systems
        monkeypatch.setattr(atomic, "_RENAME_EXCHANGE", 1 << 30)
    path = tmp_path / "x"
    for name in ("first", "second"):
        with replacing_folder(path) as folder:
            put(folder / name, b"")
            assert not (path / name).exists()
        assert names_in(tmp_path) == {"x", f"x/{name}"}

    def write_half() -> None:
        with replacing_folder(path) as folder:
            put(folder / "third", b"")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert names_in(tmp_path) == {"x", "x/second"}


def test_what_the_machine_refuses_is_a_sentence_with_the_path(tmp_path: Path) -> None:
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG):
        with pytest.raises(ResourceError, match=r"/x: cannot write: .*") as caught, resources(tmp_path / "x"):
            raise OSError(code, os.strerror(code))
        assert caught.value.exit_code == 7
    with pytest.raises(OSError, match=r"^ours$"), resources(tmp_path / "x"):
        raise OSError("ours")


@pytest.mark.process
def test_the_limit_of_a_file_is_told(tmp_path: Path) -> None:
    script = WRITE.format(before="resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))")
    command = [sys.executable, "-c", script, str(tmp_path / "x")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "larger than this system or process may write" in done.stdout
    assert names_in(tmp_path) == set()


@pytest.mark.process
@pytest.mark.parametrize(
    ("options", "message"), [("size=1m", "the disk is full"), ("size=8m,ro", "the file system is read-only")]
)
def test_a_real_full_or_read_only_disk_is_told(tmp_path: Path, options: str, message: str) -> None:
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs `unshare -rm` to mount a file system of its own")
    script = f'mount -t tmpfs -o {options} none "$0" && exec "$1" -c "$2" "$0/x"'
    command = ["unshare", "-rm", "sh", "-c", script, str(tmp_path), sys.executable, WRITE.format(before="")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "mount" in done.stderr:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    assert message in done.stdout, done.stderr


@pytest.mark.parametrize(("error", "what"), [
    (MemoryError(), "not enough memory"),
    (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "not enough memory"),
    (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "not enough memory"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 64 bytes"), "not enough memory"),
    (RuntimeError("could not create a primitive"), "not enough memory"),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "not enough memory"),
    (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), "not enough memory"),
    (RuntimeError("GET was unable to find an engine to execute this computation"), "not enough memory"),
    (RuntimeError("CUDA failed with error out of memory"), "not enough memory"),
    (RuntimeError("unable to open file <model.safetensors> in read-only mode: Too many open files (24)"), "too many open files"),
])  # fmt: skip
def test_what_a_library_says_of_memory_and_files_is_understood(error: Exception, what: str) -> None:
    assert is_shortage(error)
    assert shortage(error).startswith(what)


@pytest.mark.parametrize("error", [
    ValueError("not a number"), OSError(errno.ENOENT, os.strerror(errno.ENOENT)), ResourceError("x: not enough memory"),
])  # fmt: skip
def test_what_is_no_shortage_is_none(error: Exception) -> None:
    assert not is_shortage(error)


def test_a_tree_that_a_library_wrote_is_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tree" / "below").mkdir(parents=True)
    for name in ("a", "below/b"):
        (tmp_path / "tree" / name).write_bytes(b"x")
    fsync, synced = os.fsync, set[int]()
    monkeypatch.setattr(os, "fsync", lambda descriptor: (fsync(descriptor), synced.add(os.fstat(descriptor).st_ino)))
    sync_tree(tmp_path / "tree")
    assert synced == {(tmp_path / "tree" / name).stat().st_ino for name in ("", "a", "below", "below/b")}
