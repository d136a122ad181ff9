"""The program `msfser`: its commands, its configuration file, and the form of its errors."""

from __future__ import annotations

import errno
import inspect
import io
import os
import select
import signal
import sys
import traceback
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from msfser_cli import __version__, processors
from msfser_cli.cli.describe import describe
from msfser_cli.cli.embed import embed
from msfser_cli.cli.emphasize import emphasize
from msfser_cli.cli.evaluate import evaluate
from msfser_cli.cli.export import export
from msfser_cli.cli.join import join
from msfser_cli.cli.log import log, printable
from msfser_cli.cli.models import models
from msfser_cli.cli.predict import predict
from msfser_cli.cli.report import report
from msfser_cli.cli.show import show
from msfser_cli.cli.train import train
from msfser_cli.cli.transcribe import transcribe
from msfser_cli.errors import MsfserError, ResourceError, Stopped, UsageError, innocent
from msfser_cli.runs.stopping import stop_on_signals

app = typer.Typer(
    name="msfser",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (transcribe, emphasize, describe, embed, predict, join, evaluate, train, export, report, show):
    app.command()(command)
app.add_typer(models)

CONFIG = Path("msfser.toml")
_EXIT_UNREAD = 128 + signal.SIGPIPE
"""The exit code if a program that reads the output, such as `head`, has ended. It is the usual code for that."""
_SEVERAL = ("by", "without", "train_split", "dev_split", "inputs")  # parameters that may be given several times


def _print_version(wanted: bool) -> None:
    # This is a callback of its own, because the program's callback needs a command.
    if wanted:
        typer.echo(f"msfser {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="MSFSER_DEBUG", help="Show tracebacks and the messages of libraries.")
    ] = False,
) -> None:
    """Annotate speech for emotion: words, emphasis, delivery, and valence, arousal and dominance of every utterance.

    `msfser predict FOLDER` runs all steps. Each step is also a command.

    Each option comes from the first of these that sets it: the command line; an
    environment variable, such as MSFSER_MAX_UTTERANCE for --max-utterance;
    msfser.toml in the working directory; the profile. The help shows the defaults
    of the profile mini.

    Exit codes:
      0      all done
      1      a bug
      2      the command line or a setting is wrong
      3      finished, but some recordings failed: the ledger names them
      4      an input table or label file is wrong
      5      a model is missing, altered or unsafe
      6      another run is writing to this output
      7      disk, memory or a permission ran out
      128+N  stopped by signal N; run the same command again to continue
    """
    context.default_map = _configured()


def _configured() -> dict[str, Any]:
    """The defaults of each command from msfser.toml. Its top level is for all commands, a table such as [predict] for one.

    UsageError if the file cannot be read, is not TOML, or has an option that does not exist.
    """
    if not CONFIG.is_file():
        return {}
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content = tomllib.loads(CONFIG.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{CONFIG}: cannot be read ({error.strerror}); check its permissions") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{CONFIG}: not a TOML file ({error})") from error
    commands = {c.callback.__name__: _parameters(c.callback) for c in app.registered_commands if c.callback}
    subcommands = {c.callback.__name__.strip("_"): _parameters(c.callback) for c in models.registered_commands if c.callback}
    commands["models"] = set().union(*subcommands.values())
    shared = {name: value for name, value in content.items() if name not in commands}
    all_parameters = set().union(*commands.values())
    own = {name: table for name, table in content.items() if name in commands}
    if misused := [name for name, table in own.items() if not isinstance(table, dict)]:
        raise UsageError(f"{CONFIG}: {misused[0]} is a command; put its options into a table [{misused[0]}]")
    unknown = [name for name in shared if _plain(name) not in all_parameters]
    unknown += [
        f"{command}.{name}" for command, table in own.items() for name in table if _plain(name) not in commands[command]
    ]
    if unknown:
        raise UsageError(f"{CONFIG}: there is no option {', '.join(unknown)}; see msfser COMMAND --help")
    defaults: dict[str, Any] = {
        command: {_plain(n): _argument(n, v) for n, v in {**shared, **own.get(command, {})}.items() if _plain(n) in parameters}
        for command, parameters in commands.items()
    }
    of_models = defaults["models"]
    defaults["models"] = {
        name: {n: v for n, v in of_models.items() if n in parameters} for name, parameters in subcommands.items()
    }
    return defaults


def _argument(name: str, value: Any) -> Any:
    """A value of msfser.toml in the form of a command line argument, which is checked later. UsageError for other types."""
    if isinstance(value, list) and _plain(name) in _SEVERAL:
        return [_argument("", one) for one in value]
    if not isinstance(value, str | int | float):
        raise UsageError(f"{CONFIG}: {name} does not take a {type(value).__name__}; see msfser COMMAND --help")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return [text] if _plain(name) in _SEVERAL else text


def _parameters(callback: Any) -> set[str]:
    return set(inspect.signature(callback).parameters)


def _plain(name: str) -> str:
    return name.replace("-", "_")


def main() -> None:
    """Run the program. It loads models only from this machine, and switches off all reports of use by libraries."""
    _open_standard_streams()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    debug = "--debug" in sys.argv[1:] or os.environ.get("MSFSER_DEBUG", "").lower() in ("1", "true", "yes", "on")
    if debug:
        # --debug may be anywhere, because people add it at the end of the line that failed.
        sys.argv = [sys.argv[0], "--debug", *(a for a in sys.argv[1:] if a != "--debug")]
    else:
        warnings.simplefilter("ignore")  # these come from libraries only; msfser does not use Python warnings
    log.json = _asks_for_json(sys.argv[1:])
    log.take_over(debug=debug)
    for warning in processors.settle_threads(os.environ, processors.available()):
        log.warn(warning)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no KeyboardInterrupt before or after the block
    with stop_on_signals():
        code = _run(debug=debug)
    if code == _EXIT_UNREAD:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the flush at exit would raise the same error again
    sys.exit(code)


def _is_unread(output: int) -> bool:
    """Whether the file descriptor `output` is a pipe without a reader."""
    poll = select.poll()
    poll.register(output, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _open_standard_streams() -> None:
    """Open the standard streams that the caller closed. Otherwise a table could get descriptor 1, and libraries print into it.

    Characters that the encoding of stdout lacks are escaped.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for good
    if isinstance(sys.stdout, io.TextIOWrapper):  # stderr escapes such characters by itself
        sys.stdout.reconfigure(errors="backslashreplace")


def _asks_for_json(arguments: list[str]) -> bool:
    """Whether the log should be JSON. This is determined before the options are parsed, because parsing may fail."""
    formats = [os.environ.get("MSFSER_LOG_FORMAT", "")]
    formats += [value for name, value in pairwise(arguments) if name == "--log-format"]
    formats += [argument.partition("=")[2] for argument in arguments if argument.startswith("--log-format=")]
    return formats[-1] == "json"


def _run(*, debug: bool) -> int:
    """Run the command, and print the error that ends it early. Returns the exit code."""
    output = os.dup(1)  # a copy, because libraries replace descriptor 1 if it has no reader
    try:
        with stop_on_signals():
            # If the log is text, typer itself prints errors of options and exits.
            return int(app(standalone_mode=not log.json) or 0)
    except SystemExit as end:
        if end.code == 1 and _is_unread(output):  # libraries that print exit like this
            return _EXIT_UNREAD
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            return _EXIT_UNREAD
        trace = traceback.format_exc() if debug else None
        error = innocent(error)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            error = ResourceError(f"standard output: cannot write ({error.strerror}); free some space, and run it again")
        elif isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            error = UsageError(f"{str(error.filename)[:80]}...: the name is too long; choose a shorter one")
        code, lines = getattr(error, "exit_code", 1), error.args
        if hasattr(error, "format_message"):  # typer's
            lines = (error.format_message(),)
        elif not isinstance(error, MsfserError):
            lines = (f"a bug: {type(error).__name__}: {error}",)
            lines += () if debug else ("Run it again with --debug for the traceback: msfser --debug ...",)
        message = "\n".join(printable(str(line)) for line in lines)  # line by line: names may contain line breaks
        if trace and not log.json:
            print(trace, end="", file=sys.stderr)
        more: dict[str, Any] = {"traceback": trace} if trace else {}
        log.say("stopped" if isinstance(error, Stopped) else "error", message, level="error", exit_code=code, **more)
        return int(code)
