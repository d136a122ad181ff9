"""The commands that write a table: each has the settings of its stages and the options of a run, and passes on what is given."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from msfser_cli import schemas
from msfser_cli.cli import app as program
from msfser_cli.cli.command import Given, RunOptions, table_command
from msfser_cli.settings import SETTINGS

COMMANDS = get_command(program.app).commands  # type: ignore[attr-defined]
COMPUTED = {"intervals", "calibrated_on", "text_languages"}
"""Settings that a run works out. The user cannot set them."""


def options(command: str) -> list[str]:
    return [parameter.name for parameter in COMMANDS[command].params if parameter.param_type_name == "option"]


@pytest.mark.parametrize("command", schemas.STAGE_NAMES)
def test_a_command_has_all_settings_of_its_stages(command: str) -> None:
    stages = schemas.STAGE_NAMES if command == "predict" else (command,)
    settings = [f.name for stage in stages for f in fields(SETTINGS[stage]) if f.name not in COMPUTED]
    assert options(command)[: len(set(settings))] == list(dict.fromkeys(settings))


@pytest.mark.parametrize("command", schemas.STAGE_NAMES)
def test_a_command_has_all_options_of_a_run(command: str) -> None:
    without = {"models_dir"} if command == "emphasize" else set()  # it uses no models
    assert {f.name for f in fields(RunOptions)} - set(options(command)) == without


def small(received: list[Any]) -> typer.Typer:
    """A program with one command of the stages emphasize and describe, which both have the setting `pitch`."""
    app = typer.Typer()

    @app.command()
    @table_command("emphasize", "describe", out="out.parquet")
    def both(table: Annotated[str, typer.Argument()], given: Given, how: RunOptions, loud: bool = False) -> None:
        """Both."""
        received.extend((table, given, how, loud))

    return app


def test_what_the_user_gives_arrives(tmp_path: Path) -> None:
    received: list[Any] = []
    words = ["in.parquet", "--pitch", "harvest", "--wait", "2", "--redo", "--root", str(tmp_path), "--describer-concurrency", "7"]
    result = CliRunner().invoke(small(received), [*words, "--loud"], env={"MSFSER_SHARE": "0.5", "MSFSER_JOBS": None})
    assert result.exit_code == 0, result.output
    table, given, how, loud = received
    assert (table, loud) == ("in.parquet", True)
    assert how == RunOptions(out="out.parquet", wait=2.0, redo=True, root=str(tmp_path))
    settings = given.settings(("emphasize", "describe"), how.profile)
    assert settings == {
        "emphasize": SETTINGS["emphasize"](pitch="harvest", share=0.5),
        "describe": SETTINGS["describe"](pitch="harvest", describer_concurrency=7),
    }
    assert settings["describe"].describer_concurrency == 7  # it does not count in comparisons


def test_a_setting_that_is_not_given_is_that_of_the_profile() -> None:
    given = Given({"beam_size": 2, "model": None})
    [mini], [paper] = (given.settings(("transcribe",), profile).values() for profile in ("mini", "paper"))
    assert mini == SETTINGS["transcribe"](beam_size=2)
    assert paper.model != mini.model
    assert paper.beam_size == 2
