"""Help is quick: it loads none of the packages that take seconds, and has an example for every command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import cache

import pytest
from typer.main import get_command

from msfser_cli import __version__, processors
from msfser_cli.cli.app import app
from msfser_cli.cli.models import models

pytestmark = pytest.mark.process

COMMANDS = ("transcribe", "emphasize", "describe", "embed", "predict", "join", "evaluate", "train", "export", "report", "show")
BELOW = tuple(("models", command) for command in ("list", "fetch", "verify", "export"))
HEAVY = {
    "torch", "transformers", "whisperx", "faster_whisper", "ctranslate2", "onnxruntime", "numpy", "pandas", "pyarrow", "polars",
    "av", "huggingface_hub", "swift_f0", "matplotlib",
}  # fmt: skip
# Runs the program and, as it exits, says on the last line of stdout which modules it loaded.
PROBE = """
import atexit, json, sys
atexit.register(lambda: print("\\n" + json.dumps(sorted(name.partition(".")[0] for name in sys.modules))))
from msfser_cli import __version__, processors
from msfser_cli.cli.app import main
main()
"""


@cache
def probe(*arguments: str) -> tuple[str, set[str]]:
    """What the program prints, and the packages that it loads; it must exit with 0."""
    done = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=True)
    text, _, loaded = done.stdout.rstrip().rpartition("\n")
    return text, set(json.loads(loaded))


@pytest.mark.parametrize("arguments", [
    ("--help",), ("-h",), ("--version",), *((command, "--help") for command in (*COMMANDS, "models")),
    *((*words, "--help") for words in BELOW),
])  # fmt: skip
def test_help_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    text, loaded = probe(*arguments)
    assert text.strip()
    assert "msfser_cli" in loaded
    assert not loaded & HEAVY


def test_what_the_libraries_say_is_for_debug() -> None:
    code = "import sys, warnings\nfrom msfser_cli.cli import app\napp.app = lambda **_: warnings.warn('psst')\napp.main()"
    quiet, loud = (
        subprocess.run([sys.executable, "-c", code, *more], capture_output=True, text=True, check=True).stderr
        for more in ((), ("--debug",))
    )
    assert "psst" not in quiet
    assert "psst" in loud


@pytest.mark.parametrize("arguments", [("--help",), ("models", "list"), ("models", "list", "--log-format", "json")])
def test_output_that_nothing_reads_ends_the_program_quietly(arguments: tuple[str, ...]) -> None:
    """As `msfser ... | head`: with 128 + SIGPIPE, and no word of a bug."""
    reader, writer = os.pipe()
    os.close(reader)
    code = "from msfser_cli.cli.app import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_a_thread_variable_that_makes_no_sense_is_told_once() -> None:
    code = "import os\nfrom msfser_cli.cli import app\napp.app = lambda **_: print(os.environ['OMP_NUM_THREADS'])\napp.main()"
    environment = os.environ | {"OMP_NUM_THREADS": "abc"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == f"{processors.available()}\n"
    assert done.stderr.count("warning: OMP_NUM_THREADS is 'abc'") == 1


def test_the_version_is_one_line() -> None:
    assert probe("--version")[0].strip() == f"msfser {__version__}"


@pytest.mark.parametrize("words", [*((command,) for command in COMMANDS), *BELOW], ids=" ".join)
def test_every_command_has_an_example(words: tuple[str, ...]) -> None:
    text, _ = probe(*words, "--help")
    assert f"Example: msfser {' '.join(words)} " in text


def test_these_are_all_commands() -> None:
    assert tuple(command.callback.__name__ for command in app.registered_commands if command.callback) == COMMANDS
    assert tuple((str(models.info.name), name) for name in get_command(models).commands) == BELOW  # type: ignore[attr-defined]
