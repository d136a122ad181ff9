"""Reads the cells of a table as text, with the row numbers that a person sees in the file.

Text may be UTF-8 or UTF-16. The separator is the one of comma, tab and semicolon that is most frequent in the header. If msfser
would have to guess, it raises an error.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from msfser_cli.errors import TableError
from msfser_cli.tabular import lhotse
from msfser_cli.tabular.roles import RECORDING_NAMES, key
from msfser_cli.tabular.times import seconds

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
"""The suffixes of tables. All but Parquet may be compressed, as in `.jsonl.gz`."""

MISSING = frozenset(("", "na", "n/a", "#n/a", "<na>", "nan", "nat", "null", "none"))
"""Texts that mean a missing value, in lower case."""

LONGEST_LINE = 1_000_000
"""The longest line of a JSONL file, in characters."""

LONGEST_CELL = 131_072
"""The longest cell, in characters."""

_UNPACKED = 100
"""A compressed table may be this many times as large as its file. 64 MiB are always allowed."""

_SEPARATORS = ",\t;"
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_COMMA = re.compile(r"([+-]?)(\d*),(\d+)")
_SHOWN = 20  # names of columns in a message
_NO_ROWS = "is neither a list of objects, nor an object of objects by file name, nor an object on each line"

Cells = list["str | None"]


@dataclass(frozen=True)
class Columns:
    """The columns of a table.

    column: returns the cells of a column, as written. rows: the number of each row. row_word: what the number counts: the line of
    a text file, the row of a Parquet file, or the entry of a JSON file. separator: that of a text file. refusal: the class of the
    errors.
    """

    path: Path
    header: list[str]
    column: Callable[[int], Cells]
    rows: Sequence[int]
    row_word: str
    separator: str = ""
    refusal: type[TableError] = TableError

    def where(self, place: int) -> str:
        """The name of the row at `place` (from 0) in messages, such as `line 3`."""
        return f"{self.row_word} {self.rows[place]}"

    def written(self, index: int) -> Cells:
        """The cells of the column `index` as written; None for an empty cell."""
        cells = self.column(index)
        for place, cell in enumerate(cells):
            if cell is not None and len(cell) > LONGEST_CELL:
                self.refuse(f"{self.where(place)} has more than {LONGEST_CELL:,} characters under {self.header[index]!r}",
                            "shorten the cell")
        return [cell or None for cell in cells]

    def texts(self, index: int) -> Cells:
        """The cells without blanks around them; None for a `MISSING` value."""
        stripped = (None if cell is None else cell.strip() for cell in self.written(index))
        return [None if cell is None or cell.casefold() in MISSING else cell for cell in stripped]

    def numbers(self, index: int) -> list[float | None]:
        """The cells as finite numbers. An error names the row that has something else."""
        def number(text: str) -> float:
            value = float(text)
            if not math.isfinite(value):
                raise ValueError
            return value

        return self._parsed(index, number, "which is not a number",
                            "write numbers as 3.5, and leave the cell empty if the number is missing")

    def seconds(self, index: int, unit: float = 1.0) -> list[float | None]:
        """The cells as times in seconds, at least 0. unit: the unit of numbers without a unit, in seconds."""
        def time(text: str) -> float:
            value = seconds(text, unit)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError
            return abs(value)  # -0.0 is 0

        return self._parsed(index, time, "which is not a time from the start of the recording",
                            "write times in seconds, such as 12.5, or as 0:00:12.5")

    def shown(self, indexes: Iterable[int] | None = None) -> str:
        """The names of the columns `indexes` (default: all), for a message."""
        names = [self.header[index] for index in (range(len(self.header)) if indexes is None else indexes)]
        return ", ".join(map(repr, names[:_SHOWN])) + (" ..." if len(names) > _SHOWN else "")

    def refuse(self, problem: str, remedy: str = "") -> NoReturn:
        """Raise the error that names the table, the `problem` and the `remedy`."""
        raise self.refusal(self.path, problem, remedy)

    def _parsed(self, index: int, parse: Callable[[str], float], problem: str, remedy: str) -> list[float | None]:
        values: list[float | None] = []
        texts = self.texts(index)
        for place, text in enumerate(self._with_points(index, texts)):
            try:
                values.append(None if text is None else parse(text))
            except ValueError:
                self.refuse(f"{self.where(place)} has {texts[place]!r} under {self.header[index]!r}, {problem}", remedy)
        return values

    def _with_points(self, index: int, texts: Cells) -> Cells:
        """The `texts` with decimal points in place of decimal commas.

        If the separator is a semicolon, every comma is a decimal comma. If it is a tab, `1,234` may also mean a thousand. This
        raises an error unless another number of the column has a decimal comma for certain.
        """
        if self.separator not in (";", "\t"):
            return texts
        commas = {place: match for place, text in enumerate(texts) if text and (match := _COMMA.fullmatch(text))}
        if self.separator == "\t" and commas and all(1 <= len(m[2]) <= 3 and len(m[3]) == 3 for m in commas.values()):
            place = min(commas)
            self.refuse(f"{self.where(place)} has {texts[place]!r} under {self.header[index]!r}, whose comma may separate "
                        "decimals or thousands", "write numbers as 3.5")
        return [f"{commas[place][1]}{commas[place][2] or 0}.{commas[place][3]}" if place in commas else text
                for place, text in enumerate(texts)]


def is_table_name(path: Path) -> bool:
    """Whether the name of `path` ends in one of `SUFFIXES`, compressed or not."""
    return _suffix(path) in SUFFIXES


def read_columns(path: Path, refusal: type[TableError] = TableError) -> Columns:
    """The columns of the table at `path`. The suffix tells the format. With another suffix the file is read like CSV.

    Raises `refusal` if the file cannot be read, breaks the rules of its format, or has no header. Raises TableError if a Parquet
    file is damaged or would take too much memory.
    """
    suffix = _suffix(path)
    if suffix == ".parquet":
        return _parquet(path, refusal)
    try:
        if not path.is_file() and path.exists():  # a pipe would block
            raise refusal(path, "is not a regular file", "name a file")
        with _opened(path, refusal) as file:
            if suffix in (".json", ".jsonl"):
                return _json(path, file, refusal, lines=suffix == ".jsonl")
            return _separated(path, file, refusal)
    except (OSError, EOFError) as error:
        raise refusal(path, f"cannot be read ({getattr(error, 'strerror', None) or error})", "name another file") from error


def _suffix(path: Path) -> str:
    packed = path.suffix.lower() == ".gz" and Path(path.stem).suffix.lower() != ".parquet"
    return Path(path.stem).suffix.lower() if packed else path.suffix.lower()


def _opened(path: Path, refusal: type[TableError]) -> BinaryIO:
    if path.suffix.lower() != ".gz":
        return path.open("rb")
    limit = max(64 * 2**20, _UNPACKED * path.stat().st_size)
    with gzip.open(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise refusal(path, f"unpacks to more than {limit:,} bytes", "unpack it and name the unpacked file")
    return io.BytesIO(content)


def _encoding(file: BinaryIO) -> str:
    """The encoding: UTF-16 if the file has a byte order mark or zero bytes in its first letters, else UTF-8."""
    start = file.read(4)
    file.seek(0)
    for bom, name in _BOMS.items():
        if start.startswith(bom):
            return name
    zeros = [place for place, byte in enumerate(start) if byte == 0]
    return "utf-16-le" if zeros == [1, 3] else "utf-16-be" if zeros == [0, 2] else "utf-8"


def _not_unicode(path: Path, refusal: type[TableError]) -> TableError:
    return refusal(path, "is not UTF-8 text", "save it as UTF-8 (in Excel: CSV UTF-8), or convert it: iconv -f LATIN1 -t UTF-8")


def _separated(path: Path, file: BinaryIO, refusal: type[TableError]) -> Columns:
    encoding = _encoding(file)
    try:
        text = io.TextIOWrapper(file, encoding, newline="")
        before, first = _first_line(text)
        separator = max(_SEPARATORS, key=first.count)
        if named := re.fullmatch(r"sep=(.)\s*", first, re.IGNORECASE):  # Excel's line that names the separator
            before, separator = before + 1, named[1]
        text.seek(0)
        for _ in range(before):
            text.readline()
        reader = csv.reader(text, delimiter=separator, strict=True)
        header = [name.strip() for name in next(reader, [])]
        if not any(header):
            raise refusal(path, "is empty", "name the columns in the first line")
        rows, cells = [], []
        for row in reader:
            if not any(cell.strip() for cell in row) and row != [""]:  # in a table of one column, "" is a cell
                continue
            number = before + reader.line_num
            if len(row) < len(header) or any(cell.strip() for cell in row[len(header):]):
                raise refusal(path, f"line {number} has {len(row)} cells, but the header has {len(header)}",
                              "correct the line")
            rows.append(number)
            cells.append(row[: len(header)])
    except UnicodeError as error:
        raise _not_unicode(path, refusal) from error
    except csv.Error as error:
        raise refusal(path, f"line {before + reader.line_num} breaks the rules of CSV ({error})", "correct the line") from error
    return Columns(path, header, lambda index: [row[index] for row in cells], rows, "line", separator, refusal)


def _first_line(text: io.TextIOWrapper) -> tuple[int, str]:
    """The number of blank lines at the start, and the first line that is not blank."""
    before = 0
    while line := text.readline(LONGEST_LINE):
        if line.strip():
            return before, line
        before += 1
    return 0, ""


def _parquet(path: Path, refusal: type[TableError]) -> Columns:
    """A Parquet file. A column is read when it is used."""
    import pyarrow as pa

    from msfser_cli.store import foreign

    # Another tool wrote the file, so it has no lineage to check. Arrow verifies what it reads.
    header, rows = foreign.names(path)

    def column(index: int) -> Cells:
        table = foreign.read(path, [header[index]])
        if not table.num_columns:
            raise refusal(path, f"{header[index]!r} holds lists or bytes, not numbers or text", "write it as a plain column")
        values = table.column(0)
        if pa.types.is_duration(values.type):
            ticks = {"s": 0, "ms": 3, "us": 6, "ns": 9}[values.type.unit]
            return [None if tick is None else repr(tick / 10**ticks) for tick in values.cast(pa.int64()).to_pylist()]
        try:
            return [None if value is None else str(value) for value in values.to_pylist()]
        except (ValueError, ArithmeticError, pa.ArrowException) as error:
            raise refusal(path, f"{header[index]!r} cannot be read as text ({error})", "write it as a text column") from error

    return Columns(path, [name.strip() for name in header], column, range(1, rows + 1), "row", refusal=refusal)


def _json(path: Path, file: BinaryIO, refusal: type[TableError], *, lines: bool) -> Columns:
    """A JSON document (see `_entries`), or a file with an object on each line."""
    encoding = _encoding(file)
    try:
        numbered = None if lines else _document(path, file, encoding, refusal)
        word = "entry"
        if numbered is None:
            file.seek(0)
            numbered, word = _lines(path, file, encoding, refusal), "line"
        rows: list[int] = []
        entries: list[Mapping[str, Any]] = []
        for number, entry in numbered:
            if not isinstance(entry, dict):
                raise refusal(path, _NO_ROWS)
            try:
                flat = list(lhotse.flat_rows(entry)) if lhotse.is_nested(entry) else [entry]
            except (ValueError, TypeError) as error:
                raise refusal(path, f"{word} {number} {error}") from error
            rows += [number] * len(flat)
            entries += flat
    except UnicodeError as error:
        raise _not_unicode(path, refusal) from error
    except (ValueError, RecursionError) as error:  # from the JSON parser, or from a number with thousands of digits
        raise refusal(path, f"is not JSON ({error})", "correct it") from error
    if not entries:
        raise refusal(path, "is empty" if lines else _NO_ROWS)
    header = list(dict.fromkeys(key for entry in entries for key in entry))

    def column(index: int) -> Cells:
        values = (entry.get(header[index]) for entry in entries)
        values = (value["path"] if isinstance(value, dict) and "path" in value else value for value in values)  # as in datasets
        return [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]

    return Columns(path, header, column, rows, word, refusal=refusal)


def _document(
    path: Path, file: BinaryIO, encoding: str, refusal: type[TableError]
) -> Iterator[tuple[int, Any]] | None:
    """The numbered entries of a document; None if the file has an object on each line."""
    content = file.read().decode(encoding)
    try:
        document = json.loads(content, object_pairs_hook=_object(path, refusal))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return None
        raise
    return enumerate(_entries(path, document, refusal), start=1)


def _lines(path: Path, file: BinaryIO, encoding: str, refusal: type[TableError]) -> Iterator[tuple[int, Any]]:
    text = io.TextIOWrapper(file, encoding, newline="\n")
    number = 0
    while line := text.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise refusal(path, f"line {number} has more than {LONGEST_LINE:,} characters", "shorten it")
        if line.strip():
            try:
                yield number, json.loads(line, object_pairs_hook=_object(path, refusal))
            except ValueError as error:
                raise refusal(path, f"line {number} is not JSON ({error})", "correct it") from error


def _object(path: Path, refusal: type[TableError]) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """A hook for json.loads that raises `refusal` for an object with the same key twice."""
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for text in (t for pair in pairs for t in pair if isinstance(t, str)):
            text.encode()  # half of a surrogate pair raises a ValueError
        entry = dict(pairs)
        if len(entry) < len(pairs):
            twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
            raise refusal(path, f"one object has the key {twice!r} twice", "remove one of them")
        return entry

    return unique


def _entries(path: Path, document: Any, refusal: type[TableError]) -> Iterator[Any]:
    """The objects of a document: the members of a list, or the values of an object whose keys are file names.

    A file name may have several objects, in a list or by name, such as the workers in MSP-Podcast's labels_detailed.json. Each
    gets the file name as `FileName`, unless it names a recording itself. A document that names a recording is one row.
    """
    if isinstance(document, list):
        yield from document
        return
    named = [value for name, value in document.items() if key(name) in RECORDING_NAMES] if isinstance(document, dict) else []
    if any(isinstance(value, dict | list) for value in named):
        raise refusal(path, "holds columns, not rows", "save it by rows: in pandas, to_json(orient='records')")
    if named or not isinstance(document, dict) or lhotse.is_nested(document):
        yield document
        return
    for name, value in document.items():
        several = isinstance(value, dict) and value and all(isinstance(inner, dict) for inner in value.values())
        for entry in value if isinstance(value, list) else list(value.values()) if several else [value]:
            whole = not isinstance(entry, dict) or RECORDING_NAMES & {key(name) for name in entry}
            yield entry if whole else {"FileName": name, **entry}
