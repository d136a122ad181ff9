"""The command of recipes/nightly, as cron and systemd would run it, with quick back ends."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from kit.sounds import speak
from msfser_cli.model import weights
from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.msf_ser import MsfSer

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "nightly"


def in_crontab() -> str:
    [line] = [line for line in (RECIPE / "crontab").read_text().splitlines() if line[:1].isdigit()]
    *when, command = line.split(None, 5)
    assert all(re.fullmatch(r"\d+|\*", part) for part in when)
    assert "%" not in command  # which cron takes for the end of the line
    return command


def in_service() -> str:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(RECIPE / "msfser.service")
    service = parser["Service"]
    return f"cd {shlex.quote(service['WorkingDirectory'])} && {service['ExecStart']}"


@pytest.mark.slow
@pytest.mark.parametrize("command", [in_crontab(), in_service()], ids=["cron", "systemd"])
def test_the_command_runs_night_after_night(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("corpus", "msfser", "opt/bin"):
        (tmp_path / name).mkdir(parents=True)
    program = tmp_path / "opt" / "bin" / "msfser"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'from msfser_cli.cli.app import main; main()' \"$@\"\n")
    program.chmod(0o755)
    weights.save(tmp_path / "head", MsfSer(MsfSerConfig(acoustic_dim=2, text_dim=2)))
    speak(tmp_path / "corpus" / "a.wav")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "doubles"), prepend=os.pathsep)
    for option in ("transcriber", "acoustic_encoder", "text_encoder"):
        monkeypatch.setenv(f"MSFSER_{option.upper()}", "double")
    for option in ("model", "acoustic_model", "text_model", "head"):
        monkeypatch.setenv(f"MSFSER_{option.upper()}", str(tmp_path / "head"))
    there = command.replace("/data/", f"{tmp_path}/").replace("/opt/msfser/", f"{tmp_path}/opt/")
    for night in ("first", "second"):
        done = subprocess.run(["/bin/sh", "-c", there], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert ("--quiet" in command) == (done.stderr == "")
        assert ('"unchanged": 1' in done.stderr) == ("json" in command and night == "second")
    left = sorted(p.name for p in (tmp_path / "msfser").iterdir() if p.suffix != ".seen")
    assert left == ["scores.parquet", "scores.recordings.parquet"]
