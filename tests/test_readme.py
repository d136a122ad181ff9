"""The pages tell the truth: their commands, options, tables and links are those of the program.

The README says what msfser does; the pages of the recipes and `--help` are the reference. Everything that a user may meet
is documented in one of these: commands, options, columns, statuses, reasons, fallbacks, events, exit codes and summaries.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from msfser_cli import errors, schemas
from msfser_cli.backends.registry import KINDS, names
from msfser_cli.cli.app import app
from msfser_cli.cli.log import EVENTS
from msfser_cli.profiles import PROFILES
from msfser_cli.runs.runner import Summary

ROOT = Path(__file__).parents[1]
PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
         for path in (ROOT / "README.md", *sorted((ROOT / "recipes").rglob("README.md")))}  # fmt: skip
README, NIGHTLY = PAGES["README.md"], PAGES["recipes/nightly/README.md"]
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
PROGRAM = [*COMMANDS.values(), *COMMANDS["models"].commands.values(), get_command(app)]
OPTIONS = {name: {flag for part in (command, *getattr(command, "commands", {}).values()) for p in part.params for flag in p.opts}
           | {"--help"} for name, command in COMMANDS.items()}  # fmt: skip


def section(title: str, page: str = README) -> str:
    """The text under the heading `title`."""
    [text] = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    return str(text)


def blocks(language: str, page: str = README) -> list[str]:
    """The code blocks in `language`."""
    return [str(block) for block in re.findall(rf"^ *```{language}\n(.*?)^ *```$", page, re.MULTILINE | re.DOTALL)]


def cells(text: str) -> list[list[str]]:
    """The rows of the tables in `text`, without their headings."""
    lines = [line.strip("|") for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]
    heads = {i for i, row in enumerate(rows) if i + 1 < len(rows) and set("".join(rows[i + 1])) <= {"-", ":"}}
    return [row for i, row in enumerate(rows) if i not in heads and not set("".join(row)) <= {"-", ":"}]


def names_in(rows: list[list[str]]) -> list[str]:
    """The names in code type in the first column."""
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row[0])]


def invocations(page: str) -> list[list[str]]:
    """Every `msfser COMMAND ...` in the code of a page, blocks and inline, as words."""
    code = "\n".join(blocks("bash", page)).replace("\\\n", " ")
    lines = re.findall(r"msfser ((?:[a-z]+)\b[^\n&|]*)", code) + re.findall(r"`msfser ([a-z]+\b[^`]*)`", page)
    return [shlex.split(line) for line in lines]


EXAMPLES = sorted({tuple(words) for page in PAGES.values() for words in invocations(page)})


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 300


def test_every_command_is_there_and_no_other() -> None:
    assert {words[0] for words in invocations(README)} == set(COMMANDS)
    assert [row[0].strip("`") for row in cells(section("Commands"))] == list(COMMANDS)
    models = PAGES["recipes/models/README.md"]
    assert {words[1] for words in invocations(models) if words[0] == "models"} == set(COMMANDS["models"].commands)
    assert names_in(cells(models)) == list(COMMANDS["models"].commands)


@pytest.mark.parametrize("words", EXAMPLES, ids=" ".join)
def test_every_option_of_an_example_is_one_of_its_command(words: tuple[str, ...]) -> None:
    assert words[0] in COMMANDS
    assert {word for word in words if word.startswith("-") and word != "-"} <= OPTIONS[words[0]]


def test_every_option_that_is_mentioned_exists() -> None:
    others = {"msp_podcast", "iemocap", "ablation", "controlled", "mini_head"}  # these have programs with options of their own
    pages = "".join(page for name, page in PAGES.items() if Path(name).parent.name not in others)
    mentioned = set(re.findall(r"`(?!pytest)(?:[^`\n]*\s)?(--[a-z-]+)[^`]*`", pages))
    assert len(mentioned) > 30
    assert mentioned <= {flag for command in PROGRAM for p in command.params for flag in p.opts} | {"--help"}


def test_every_option_has_a_help_text_and_every_command_says_what_it_does() -> None:
    for command in PROGRAM:
        assert re.match(r"[A-Z][a-z]+,? ", command.help), command.name
        assert all(len(line) <= 78 for line in command.help.splitlines()[1:]), command.name  # or 80 columns break its lines
        for parameter in command.params:
            assert getattr(parameter, "help", None), (command.name, parameter.name)


def test_the_exit_codes_are_those_of_the_errors() -> None:
    def below(kind: type[errors.MsfserError]) -> list[type[errors.MsfserError]]:
        return [kind, *(deeper for sub in kind.__subclasses__() for deeper in below(sub))]

    codes = {"0", str(errors.EXIT_SOME_FAILED), "128+N", *(str(kind.exit_code) for kind in below(errors.MsfserError))}
    listed = [row[0] for row in cells(section("Exit codes", NIGHTLY))]
    assert sorted(listed) == sorted(codes)
    text = CliRunner().invoke(app, ["--help"]).stdout
    assert all(re.search(rf"^\W*{re.escape(code)}\s", text, re.MULTILINE) for code in codes)


def test_every_promise_names_the_tests_that_hold_it() -> None:
    promises = re.findall(r"^\d+\. .*?(?=^\d+\. |\Z)", section("What it promises"), re.MULTILINE | re.DOTALL)
    assert len(promises) > 10
    assert all(re.search(r"\]\(tests/[a-z/_]+\.py\)", promise) for promise in promises)  # that they exist, another test says
    rows = cells((ROOT / "tests/COVERAGE.md").read_text(encoding="utf-8"))
    assert [int(row[0]) for row in rows] == list(range(1, len(promises) + 1))
    for row in rows:
        for name in re.findall(r"`([a-z_]+/(?:[a-zA-Z_.]+)?)`", " ".join(row)):
            assert (ROOT / "tests" / name).exists(), name


def test_every_column_is_explained_where_it_is_defined() -> None:
    columns = (*schemas.columns_through("predict"), *schemas.RECORDINGS)
    for column in columns:
        assert len(column.meaning) > 10, column.name
        assert column.unit or column.range or column.type != "float64", column.name
    mentioned = set(re.findall(r"`([a-z0-9_]+)`", section("What you get"))) - {"done", "no_speech", "failed", "mini"}
    assert len(mentioned) > 15
    assert mentioned <= set(schemas.names(columns))


def test_the_statuses_are_those_of_the_schema() -> None:
    [column] = [c for c in schemas.RECORDINGS if c.name == "status"]
    [sentence] = re.findall(r"Its `status` is (.*?)\.", NIGHTLY, re.DOTALL)
    assert re.findall(r"`([^`]+)`", sentence) == column.range.split(", ")


def test_the_events_are_those_of_the_log() -> None:
    assert names_in(cells(section("The log as JSON", NIGHTLY))) == list(EVENTS)


def test_the_reasons_are_those_of_the_ledger() -> None:
    assert names_in(cells(section("What happens to failures", NIGHTLY))) == list(errors.REASONS)


def test_the_fields_of_the_summary_are_explained() -> None:
    assert sorted(names_in(cells(section("The summary as JSON", NIGHTLY)))) == sorted(f.name for f in fields(Summary))


def test_the_fallbacks_are_those_of_the_schema() -> None:
    page = PAGES["recipes/describers/README.md"]
    assert [name for name in names_in(cells(page)) if name in schemas.FALLBACKS] == list(schemas.FALLBACKS)


def test_the_back_ends_are_those_that_come_with_it() -> None:
    rows = {row[0].strip("`"): re.findall(r"`([^`]+)`", row[2]) for row in cells(section("Commands"))}
    by_command = {"transcribe": "transcribers", "emphasize": "emphasizers", "describe": "describers", "embed": "encoders"}
    for command, kind in by_command.items():
        assert sorted(rows[command]) == names(kind)
    assert set(re.findall(r"`msfser\.([a-z]+)`", PAGES["recipes/plugins/README.md"])) == set(KINDS)


def test_every_recipe_is_listed() -> None:
    folders = {f"({path.name})" for path in (ROOT / "recipes").iterdir() if path.is_dir()}
    assert folders == set(re.findall(r"^\| \[\w+\](\(\w+\)) \|", PAGES["recipes/README.md"], re.MULTILINE))


def test_the_profiles_are_there() -> None:
    assert all(f"`{profile}`" in README for profile in PROFILES)


def test_the_configuration_file_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [example] = [block for block in blocks("toml") if "[predict]" in block]
    (tmp_path / "msfser.toml").write_text(example)
    monkeypatch.chdir(tmp_path)
    # The first thing that the program looks at beyond its configuration is the corpus, which does not exist.
    result = CliRunner().invoke(app, ["predict", "nowhere"])
    assert isinstance(result.exception, errors.UsageError)
    assert str(result.exception) == "nowhere: no such file or folder"
    (tmp_path / "msfser.toml").write_text(example.replace("keep-vectors", "keep-victors"))
    with pytest.raises(errors.UsageError, match="there is no option"):
        CliRunner().invoke(app, ["predict", "nowhere"], catch_exceptions=False)


@pytest.mark.parametrize("document", [*PAGES, "THIRD_PARTY.md", "CHANGELOG.md", "tests/COVERAGE.md"])
def test_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    anchors = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
               for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors
        else:
            assert "://" not in target
            assert ((ROOT / document).parent / target.partition("#")[0]).exists(), target
