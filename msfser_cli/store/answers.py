"""What servers have answered, so that nothing is asked and paid for twice, however a run ends.

`answers.sqlite` in the cache folder is shared by all runs of a user, several at once too. It may be deleted at any time between
runs, which forgets all. An answer is on the disk when `put` returns, and each has a seal: one that the disk has altered is none.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import sqlite3
import time
from pathlib import Path

from msfser_cli.errors import ResourceError

logger = logging.getLogger("msfser")

NAME = "answers.sqlite"

_LONGEST_WAIT = 30.0
_FULL = ("database or disk is full", "disk I/O error")
_NOT_NOW = ("database is locked", "attempt to write a readonly database", "unable to open database file", "locking protocol")
"""What SQLite says of a file that is in order; of all else, the file is the cause."""
_TABLE = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL, seal TEXT NOT NULL) WITHOUT ROWID"


class Answers:
    """Answers by their keys, in a database in `folder`. One thread at a time may use it.

    A damaged file is set aside. Where it cannot be used for another reason, nothing is remembered, and a warning says so once;
    but a full disk is a ResourceError.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._database: sqlite3.Connection | None = None
        self._file: int | None = None  # the inode that is open
        self._readable = self._writable = True

    def get(self, key: str) -> str | None:
        """The answer that was put under `key`; None where there is none."""
        found = self._do("SELECT answer, seal FROM answers WHERE key = ?", (key,)) if self._readable else []
        return next((answer for answer, seal in found if seal == _seal(key, answer)), None)

    def put(self, key: str, answer: str) -> None:
        """Remember it. It is on the disk when this returns."""
        if self._writable:
            self._do("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (key, answer, _seal(key, answer)))

    def _do(self, statement: str, values: tuple[str, ...]) -> list[tuple[str, str]]:
        is_read = statement.startswith("SELECT")
        why: Exception | None = None
        for _ in range(2):
            try:
                return self._opened().execute(statement, values).fetchall()
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                # SQLite has no types for these, and no numbers before Python 3.11.
                if str(error) in _FULL:
                    raise ResourceError(
                        f"{self.path}: the disk is full or reports an error ({error}); set MSFSER_CACHE to another folder"
                    ) from error
                why = error
                if str(error) in _NOT_NOW:
                    break
                self._set_aside(error)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise ResourceError(f"{self.path}: cannot write: the disk is full ({error.strerror})") from error
                why = error
                break
        self._readable, self._writable = self._readable and not is_read, False
        logger.warning("%s: answers are not remembered, and a run that is stopped asks for them again (%s)", self.path, why)
        return []

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self.path, timeout=_LONGEST_WAIT, isolation_level=None, check_same_thread=False)
            try:
                database.text_factory = lambda text: text.decode("utf-8", "replace")
                self._file = self.path.stat().st_ino
                database.execute(_TABLE)
            except BaseException:
                database.close()
                raise
            self._database = database
        return self._database

    def _set_aside(self, error: Exception) -> None:
        """Give the damaged file, and what SQLite keeps beside it, another name, unless another process has done so."""
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None
        with contextlib.suppress(OSError):
            if self.path.stat().st_ino != self._file:
                return
            aside = self.path.with_name(f"{NAME}.damaged-{time.time_ns()}")
            # The journal first: it would be played back into the new file.
            with contextlib.suppress(FileNotFoundError):
                self.path.with_name(f"{NAME}-journal").rename(f"{aside}-journal")
            self.path.rename(aside)
            logger.warning("%s: damaged (%s); it is now %s, and answers are remembered anew", self.path, error, aside.name)


def _seal(key: str, answer: str) -> str:
    return hashlib.sha256(f"{key}\0{answer}".encode()).hexdigest()[:16]
