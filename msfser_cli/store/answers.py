"""Stores the answers of servers, so that no question is asked and paid for twice, even after a crash.

All runs of a user share `answers.sqlite` in the cache folder, also at the same time. You may delete it between runs, but its
answers are then lost. An answer is on the disk when `put` returns. Each has a seal, and an answer that does not match its seal
is ignored.
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
"""Errors of SQLite for an intact file. Any other error means that the file is damaged."""
_TABLE = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL, seal TEXT NOT NULL) WITHOUT ROWID"


class Answers:
    """Answers by their keys, in a database in `folder`. Only one thread at a time may use it.

    A damaged file is renamed, and a new one begun. A full disk raises ResourceError. If the file cannot be used for another
    reason, no answers are stored, and msfser warns once.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._database: sqlite3.Connection | None = None
        self._file: int | None = None  # the inode of the open file
        self._readable = self._writable = True

    def get(self, key: str) -> str | None:
        """The answer stored under `key`; None if there is none."""
        rows = self._do("SELECT answer, seal FROM answers WHERE key = ?", (key,)) if self._readable else []
        return next((answer for answer, seal in rows if seal == _seal(key, answer)), None)

    def put(self, key: str, answer: str) -> None:
        """Store the answer. It is on the disk when this returns."""
        if self._writable:
            self._do("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (key, answer, _seal(key, answer)))

    def _do(self, statement: str, values: tuple[str, ...]) -> list[tuple[str, str]]:
        is_read = statement.startswith("SELECT")
        why: Exception | None = None
        for _ in range(2):
            try:
                return self._opened().execute(statement, values).fetchall()
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                # sqlite3 has no classes for these errors, and no codes before Python 3.11.
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
        logger.warning("%s: cannot store answers (%s), so an interrupted run asks for them again", self.path, why)
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
        """Rename the damaged file and its journal, unless another process has done so."""
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None
        with contextlib.suppress(OSError):
            if self.path.stat().st_ino != self._file:
                return
            aside = self.path.with_name(f"{NAME}.damaged-{time.time_ns()}")
            # The journal first, because SQLite would replay it into the new file.
            with contextlib.suppress(FileNotFoundError):
                self.path.with_name(f"{NAME}-journal").rename(f"{aside}-journal")
            self.path.rename(aside)
            logger.warning("%s: damaged (%s); msfser renamed it to %s and began a new file", self.path, error, aside.name)


def _seal(key: str, answer: str) -> str:
    return hashlib.sha256(f"{key}\0{answer}".encode()).hexdigest()[:16]
