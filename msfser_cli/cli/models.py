"""msfser models: list, fetch, verify and export models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msfser_cli.cli import options as o
from msfser_cli.cli.log import log, printable

if TYPE_CHECKING:
    from msfser_cli.model_store.models import LocalModel

_OFFLINE = os.environ.get("HF_HUB_OFFLINE")
"""What the user has set. The program sets this variable itself later, for every command."""

models = typer.Typer(name="models", no_args_is_help=True, help="List, fetch, verify and export models.")

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]...", show_default=False,
        help="Registered names, owner/name, or owner/name@revision. Without a name, all models of the profile.",
    ),
]  # fmt: skip
Languages = Annotated[
    list[str] | None,
    typer.Option(
        "--language", metavar="CODE", help="Take only the aligner of this language, such as en, from the profile. Repeatable."
    ),
]  # fmt: skip
TrustPickle = Annotated[
    bool,
    typer.Option("--trust-pickle", help="Convert weights from a pickle that is not in the registry. A pickle can run code: use "
                 "this only if you trust its publisher. msfser opens it once, as weights only."),
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
    """List models with source, revision, licence and size, and whether they are installed.

    Nothing is downloaded.

    Example: msfser models list --profile paper
    """
    log.set(log_format, quiet=False)
    from msfser_cli.model_store import models as m
    from msfser_cli.model_store.registry import registry

    used = _names(names, profile, language)
    rows = []
    for name in used:
        installed, registered = m.find(name, m.models_dir()), registry().get(name)
        about = installed or registered
        source, _, revision = name.partition("@")
        rows.append({
            "name": name,
            "used_by": used[name],
            "source": registered.source if registered else source,
            "revision": about.revision if about else revision or None,
            "license": (about.license if about else "") or None,
            "size_bytes": installed.size if installed else registered.size or None if registered else None,
            "present": installed.place if installed else None,
            "folder": str(installed.folder) if installed and installed.place != m.WHEELS else None,
        })  # fmt: skip
    if json:
        from json import dumps

        typer.echo(dumps(rows, ensure_ascii=False))
        return
    _table(rows)
    if not names and not all(row["present"] for row in rows):
        option = "" if profile == "mini" else f" --profile {profile}"
        option += "".join(f" --language {code}" for code in language or ())
        log.say("note", f"to get the missing models, run: msfser models fetch{option}")


@models.command()
def fetch(
    names: Names = None,
    profile: o.Profile = "mini",
    language: Languages = None,
    trust_pickle: TrustPickle = False,
    quiet: o.Quiet = False,
    log_format: o.LogFormat = "text",
) -> None:
    """Fetch missing models. No other command downloads anything.

    msfser fetches only the files that it loads, and verifies them. Interrupted
    downloads resume. Files that are already present and verified are kept. A
    pickle is converted to safetensors once and not opened again.

    Example: msfser models fetch --profile paper
    """
    log.set(log_format, quiet=quiet)
    used = _without_code(_names(names, profile, language))
    if _OFFLINE is None:
        os.environ["HF_HUB_OFFLINE"] = "0"
    if not log.is_watched:
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    if quiet:
        os.environ["HF_HUB_VERBOSITY"] = "error"  # else the hub's client prints each retry
    from msfser_cli.errors import ModelError
    from msfser_cli.model_store.fetch import fetch as fetch_model

    problems: list[Any] = []
    for name in used:
        try:
            model, fetched = fetch_model(name, trust_pickle=trust_pickle)
        except ModelError as error:  # go on with the others
            problems += error.args
        else:
            log.say("note", f"{name}: {_about(model)}{'' if fetched else '; already present'}", name=name, fetched=fetched)
    if problems:
        raise ModelError(*problems)
    log.say("summary", _count(used, "present and verified"), exit_code=0)


@models.command()
def verify(
    names: Names = None,
    profile: o.Profile = "mini",
    language: Languages = None,
    models_dir: o.ModelsDir = None,
    quiet: o.Quiet = False,
    log_format: o.LogFormat = "text",
) -> None:
    """Verify models: read every file and compare its sha256.

    Exits with 5 if a file differs or a model is missing.

    Example: msfser models verify --profile paper
    """
    log.set(log_format, quiet=quiet)
    from msfser_cli.errors import ModelError
    from msfser_cli.model_store import models as m

    problems: list[Any] = []
    used = _without_code(_names(names, profile, language))
    for name in used:
        try:
            model = m.find(name, m.models_dir())
            if model is None:
                raise ModelError(m.missing(name))
            m.verify(name, model)
            without = [file for file, part in model.files.items() if not part.digest]
            unverified = f"; not verified, because no sha256 is published: {', '.join(without)}" if without else ""
            log.say("note", f"{name}: {_about(model)}{unverified}", name=name)
        except ModelError as error:
            problems += error.args
    if problems:
        raise ModelError(*problems)
    log.say("summary", _count(used, "verified"), exit_code=0)


@models.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to copy to. Models already in it are kept.")],
    names: Names = None,
    profile: o.Profile = "mini",
    language: Languages = None,
    models_dir: o.ModelsDir = None,
    quiet: o.Quiet = False,
    log_format: o.LogFormat = "text",
) -> None:
    """Export models to a folder, for a machine without a network.

    On that machine, pass the folder with --models-dir. Its models.json has the
    source, revision and licence of each model, and the size and sha256 of each
    file. If the export is interrupted, run the same command again: it continues.

    Example: msfser models export models/ --profile paper
    """
    log.set(log_format, quiet=quiet)
    from msfser_cli.model_store.export import export as export_models

    used = _without_code(_names(names, profile, language))
    for name, path, copied in export_models(list(used), folder):
        log.say("note", f"{name}: {'copied to' if copied else 'already in'} {path}", name=name, copied=copied)
    use = f"use them with: --models-dir {printable(str(folder))}"
    log.say("summary", f"{_count(used, 'copied and verified')}\n{use}", exit_code=0)


def _names(names: list[str] | None, profile: str, languages: list[str] | None) -> dict[str, list[str]]:
    """The models that the user named, else those of the profile, each with the stages of the profile that use it."""
    from msfser_cli.profiles import models_of

    of_profile = models_of(profile, languages or ())
    return {name: of_profile.get(name, []) for name in names} if names else of_profile


def _without_code(used: dict[str, list[str]]) -> dict[str, list[str]]:
    from msfser_cli.errors import ModelError
    from msfser_cli.model_store.registry import WITH_CODE

    if set(used) <= set(WITH_CODE):
        raise ModelError(f"{', '.join(used)}: comes with its own code, so msfser leaves it out; if you trust it, run: "
                         f"hf download {' '.join(used)}")
    for name in used:
        if name in WITH_CODE:
            log.say("note", f"{name}: comes with its own code, so msfser leaves it out; if you trust it, run: hf download {name}",
                    name=name)
    return {name: stages for name, stages in used.items() if name not in WITH_CODE}


def _about(model: LocalModel) -> str:
    where = "in installed packages" if model.place == "wheels" else str(model.folder)
    return f"{model.source}@{model.revision[:12]}, {_size(model.size)}, {where}"


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
    for title in ("model", "published as", "licence", "size", "present"):
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
