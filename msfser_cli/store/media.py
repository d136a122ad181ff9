"""The files of recordings while they are read, on disk or in an object store."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from msfser_cli.errors import RecordingError
from msfser_cli.store.audio import Audio, decode
from msfser_cli.store.objects import Address, Copy, Location, copied
from msfser_cli.store.seen import Content, content_of


class Media:
    """The file of a recording, for a `with` block. An object is copied once, when it is first needed, and hashed meanwhile.

    output: the copy of an object, and decoded samples, lie beside it; None: in the system's folder for temporary files.
    """

    def __init__(self, place: Location, output: Path | None = None) -> None:
        self._place, self._output = place, output
        self._before = _state(place)
        self._copy: Copy | None = None
        self._closed_after = ExitStack()

    def __enter__(self) -> Media:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed_after.close()

    def content(self) -> Content:
        """What it holds. Raises RecordingError as `file_sha256` and `objects.copied`."""
        if isinstance(self._place, Path):
            return content_of(self._place)
        copy = self._copied(self._place)
        return Content(copy.sha256, copy.size_bytes, copy.state)

    def audio(self, *, channels: str = "mix", audio_track: int | None = None) -> Audio:
        """Its samples. Raises as `decode` and `objects.copied`."""
        path = self._place if isinstance(self._place, Path) else self._copied(self._place).path
        return decode(path, self._output, channels=channels, audio_track=audio_track)

    def change(self) -> RecordingError | None:
        """Why what was read may be of two contents, because the file was written to or removed meanwhile; None: it was not."""
        if (after := _state(self._place)) == self._before:
            return None
        why = "the file changed while it was read" if after else "the file was removed while it was read"
        return RecordingError("changed" if after else "missing", why)

    def _copied(self, address: Address) -> Copy:
        if self._copy is None:
            self._copy = self._closed_after.enter_context(copied(address, self._output))
        return self._copy


def size(place: Location) -> int:
    """The size in bytes; 0 if it is not a file, or not known without asking a store. A manifest may hold an impossible name."""
    if isinstance(place, Address):
        return place.size or 0
    try:
        return place.stat().st_size if place.is_file() else 0
    except (OSError, ValueError):
        return 0


def _state(place: Location) -> tuple[int, ...] | None:
    """Values that change if the file is written to or replaced; None if there is no file. For an object, `copied` sees to it."""
    if isinstance(place, Address):
        return ()
    try:
        status = place.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino
