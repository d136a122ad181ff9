"""msfser models: what a profile needs, and getting, checking and carrying it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msfser_cli.cli import options as o
from msfser_cli.cli.log import log, printable

if TYPE_CHECKING:
    from msfser_cli.profiles.models import Found

_OFFLINE = os.environ.get("HF_HUB_OFFLINE")
"""What the user has set; the program itself sets it, for every command, when it has been imported."""

models = typer.Typer(name="models", no_args_is_help=True, help="List, fetch, verify and export the models of a profile.")

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]...", show_default=False,
        help="Registered names, or owner/name or owner/name@revision of a hub; else all of the profile.",
    ),
]  # fmt: skip
Languages = Annotated[
    list[str] | None,
    typer.Option("--language", help="Of a profile's aligners only those of this language, such as en. Repeatable."),
]  # fmt: skip
TrustPickle = Annotated[
    bool,
    typer.Option("--trust-pickle", help="Convert weights that are a pickle whose sha256 is not registered: where you trust its "
                 "publisher. It is opened once, as weights only."),
]  # fmt: skip


@models.command("list")
def list_(
    names: Names = None,
    profile: o.Profile = "mini",
    language: Languages = None,
    models_dir: o.ModelsDir = None,
    json: o.Json = False,
    log_format: o.LogFormat = "text",
) -> None:
    """Models, where they are from, and whether they are here. Nothing is read or fetched.

    Example: msfser models list --profile paper
    """
    log.set(log_format, quiet=False)
    from msfser_cli.profiles import models as m
    from msfser_cli.profiles import registry

    used = _names(names, profile, language)
    rows = []
    for name in used:
        found, known = m.find(name, m.models_dir()), registry().get(name)
        source, _, revision = name.partition("@")
        rows.append({
            "name": name,
            "used_by": used[name],
            "source": known.source if known else source,
            "revision": found.revision if found else known.revision if known else revision or None,
            "license": (found.license if found else known.license if known else "") or None,
            "size_bytes": found.size if found else known.size or None if known else None,
            "present": found.place if found else None,
            "folder": str(found.folder) if found and found.place != m.WHEELS else None,
        })  # fmt: skip
    if json:
        from json import dumps

        typer.echo(dumps(rows, ensure_ascii=False))
        return
    _table(rows)
    if not names and not all(row["present"] for row in rows):
        option = "" if profile == "mini" else f" --profile {profile}"
        option += "".join(f" --language {code}" for code in language or ())
        log.say("note", f"get what is missing with: msfser models fetch{option}")


@models.command()
def fetch(
    names: Names = None,
    profile: o.Profile = "mini",
    language: Languages = None,
    trust_pickle: TrustPickle = False,
    quiet: o.Quiet = False,
    log_format: o.LogFormat = "text",
) -> None:
    """Fetch what is missing: the only command that uses a network.

    Only files that are loaded are fetched, and verified. What was begun is gone
    on with; what is here and as it should be is left alone. A pickle becomes
    safetensors, and is never opened again.

    Example: msfser models fetch --profile paper
    """
    log.set(log_format, quiet=quiet)
    used = _without_code(_names(names, profile, language))
    if _OFFLINE is None:
        os.environ["HF_HUB_OFFLINE"] = "0"
    if quiet or log.json or not sys.stderr.isatty():
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    if quiet:
        os.environ["HF_HUB_VERBOSITY"] = "error"  # else it says when it tries again
    from msfser_cli.errors import ModelError
    from msfser_cli.profiles.fetch import fetch as get

    problems: list[Any] = []
    for name in used:
        try:
            found, fetched = get(name, trust_pickle=trust_pickle)
        except ModelError as error:  # the others can be had all the same
            problems += error.args
        else:
            log.say("note", f"{name}: {_about(found)}{'' if fetched else '; it was here'}", name=name, fetched=fetched)
    if problems:
        raise ModelError(*problems)
    log.say("summary", _count(used, "here and verified"), exit_code=0)


@models.command()
def verify(
    names: Names = None,
    profile: o.Profile = "mini",
    language: Languages = None,
    models_dir: o.ModelsDir = None,
    quiet: o.Quiet = False,
    log_format: o.LogFormat = "text",
) -> None:
    """Read every file again and compare its hash. Exits with 5 where one differs or a model is missing.

    Example: msfser models verify --profile paper
    """
    log.set(log_format, quiet=quiet)
    from msfser_cli.errors import ModelError
    from msfser_cli.profiles import models as m

    problems: list[Any] = []
    used = _without_code(_names(names, profile, language))
    for name in used:
        try:
            found = m.find(name, m.models_dir())
            if found is None:
                raise ModelError(m.missing(name))
            m.verify(name, found)
            unknown = [file for file, part in found.files.items() if not part.digest]
            unsure = f"; no hash is known of {', '.join(unknown)}" if unknown else ""
            log.say("note", f"{name}: {_about(found)}{unsure}", name=name)
        except ModelError as error:
            problems += error.args
    if problems:
        raise ModelError(*problems)
    log.say("summary", _count(used, "verified"), exit_code=0)


@models.command()
def export(
    folder: Annotated[Path, typer.Argument(help="The folder to copy to; models that are in it already stay.")],
    names: Names = None,
    profile: o.Profile = "mini",
    language: Languages = None,
    models_dir: o.ModelsDir = None,
    quiet: o.Quiet = False,
    log_format: o.LogFormat = "text",
) -> None:
    """Copy models for a machine without a network, which reads them with --models-dir.

    Interrupted, the same command goes on. models.json in the folder has the
    source, revision, licence, and every file's size and sha256.

    Example: msfser models export models/ --profile paper
    """
    log.set(log_format, quiet=quiet)
    from msfser_cli.profiles.export import export as copy

    used = _without_code(_names(names, profile, language))
    for name, path, copied in copy(list(used), folder):
        log.say("note", f"{name}: {'copied to' if copied else 'was already in'} {path}", name=name, copied=copied)
    use = f"use them with: --models-dir {printable(str(folder))}"
    log.say("summary", f"{_count(used, 'copied and verified')}\n{use}", exit_code=0)


def _names(names: list[str] | None, profile: str, languages: list[str] | None) -> dict[str, list[str]]:
    """The models that are asked for, each with the stages of the profile that use it."""
    from msfser_cli.profiles import models_of

    of_profile = models_of(profile, languages or ())
    return {name: of_profile.get(name, []) for name in names} if names else of_profile


def _without_code(used: dict[str, list[str]]) -> dict[str, list[str]]:
    from msfser_cli.errors import ModelError
    from msfser_cli.profiles import WITH_CODE

    if set(used) <= set(WITH_CODE):
        raise ModelError(f"{', '.join(used)}: comes with code; where you trust that: hf download {' '.join(used)}")
    for name in used:
        if name in WITH_CODE:
            log.say("note", f"{name}: left out, as it comes with code; where you trust that: hf download {name}", name=name)
    return {name: stages for name, stages in used.items() if name not in WITH_CODE}


def _about(found: Found) -> str:
    where = "in installed packages" if found.place == "wheels" else str(found.folder)
    return f"{found.source}@{found.revision[:12]}, {_size(found.size)}, {where}"


def _count(names: dict[str, list[str]], what: str) -> str:
    return f"{len(names)} model{'' if len(names) == 1 else 's'} {what}"


def _size(size: int | None) -> str:
    if size is None:
        return "?"
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _table(rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("model", "published as", "licence", "size", "here"):
        table.add_column(title, justify="right" if title == "size" else "left", overflow="fold")
    for row in rows:
        owner, _, published = row["source"].partition("/")
        source = f"{owner}/{'' if console.width >= 100 else chr(10)}{published}"
        cells = (
            [row["name"].rpartition("/")[2], ", ".join(row["used_by"])],
            [source, f"@{row['revision'][:12]}" if row["revision"] else ""],
            [row["license"] or "?"], [_size(row["size_bytes"])], [row["present"] or "missing"],
        )  # fmt: skip
        texts = [Text("\n").join(Text(line, style="dim" if n else "") for n, line in enumerate(lines) if line) for lines in cells]
        table.add_row(*texts, style="" if row["present"] else "bold", end_section=True)
    console.print(table)
