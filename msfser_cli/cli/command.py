"""The form of the commands that have settings: an input, the settings of their stages, and perhaps the options of a run."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, get_type_hints

from msfser_cli.cli import options as o
from msfser_cli.settings import MAX_FAILED, SETTINGS, Settings, build

Command = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a command that writes a table runs, whatever its stages do. Each field is an option of all five, in this order.

    models_dir: only for the environment; the option itself puts it there.
    """

    out: o.Out
    profile: o.Profile = "mini"
    models_dir: o.ModelsDir = None
    root: o.Root = None
    shard: o.Shard = None
    redo: o.Redo = False
    retry_failed: o.RetryFailed = False
    prune: o.Prune = False
    max_failed: o.MaxFailed = MAX_FAILED
    wait: o.Wait = 0.0
    jobs: o.Jobs = None
    engine: o.Engine = "local"
    ray_address: o.RayAddress = None
    worker_cpus: o.WorkerCpus = 1.0
    worker_gpus: o.WorkerGpus = None
    dry_run: o.DryRun = False
    json: o.Json = False
    quiet: o.Quiet = False
    log_format: o.LogFormat = "text"


@dataclass(frozen=True)
class Given:
    """The settings of the command's stages on the command line, by name. None: the user has not set it."""

    values: Mapping[str, Any]

    def settings(self, stages: Iterable[str], profile: str) -> dict[str, Settings]:
        """The settings of `stages`: those that the user has set, else those of the profile, else the defaults.

        UsageError for a value that a setting does not take.
        """
        from msfser_cli import profiles

        of_profile = profiles.profile(profile)
        return {stage: build(stage, {**of_profile[stage], **self.of(stage)}) for stage in stages}

    def of(self, stage: str) -> dict[str, Any]:
        """The settings of `stage` that the user has set."""
        names = [f.name for f in fields(SETTINGS[stage])]
        return {name: self.values[name] for name in names if self.values.get(name) is not None}


def table_command(*stages: str, out: str, without: Collection[str] = ()) -> Callable[[Command], Command]:
    """Make a command of a function that takes an input, `given: Given`, `how: RunOptions`, and perhaps options of its own.

    The command has the options of the settings of `stages` in place of `given`, and those of a run in place of `how`.
    out: the default of --out. without: the options of a run that have no effect on these stages.
    """
    types = get_type_hints(RunOptions, include_extras=True)
    run = [
        _option(f.name, types[f.name], out if f.default is MISSING else f.default)
        for f in fields(RunOptions)
        if f.name not in without
    ]

    def made(function: Command) -> Command:
        def ran(**values: Any) -> None:
            how = RunOptions(**{option.name: values.pop(option.name) for option in run})
            function(**values, how=how)

        return _made(function, ran, stages, run)

    return made


def settings_command(*stages: str) -> Callable[[Command], Command]:
    """Make a command of a function that takes an input, `given: Given`, and options of its own.

    The command has the options of the settings of `stages` in place of `given`.
    """
    return lambda function: _made(function, function, stages, [])


def _made(function: Command, ran: Command, stages: Sequence[str], run: Sequence[inspect.Parameter]) -> Command:
    """The command that calls `ran`. function: has the parameters. run: more of them."""
    settings = [
        _option(name, annotation, None)
        for name in dict.fromkeys(f.name for stage in stages for f in fields(SETTINGS[stage]))
        if (annotation := o.of_setting(name)) is not None
    ]

    @functools.wraps(function)
    def command(**values: Any) -> None:
        given = Given({option.name: values.pop(option.name) for option in settings})
        ran(**values, given=given)

    parameters = inspect.signature(function, eval_str=True).parameters.values()
    first, *own = [_option(p.name, p.annotation, p.default) for p in parameters if p.annotation not in (Given, RunOptions)]
    # typer reads the options from here. In the help, an option comes after those of its panel that are before it.
    every = [first, *settings, *run, *own]
    command.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    command.__annotations__ = {option.name: option.annotation for option in every}
    return command


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
