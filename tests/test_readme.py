"""The README tells the truth: its commands, options, tables and links are those of the program."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from msfser_cli import errors, schemas
from msfser_cli.backends.registry import KINDS, names
from msfser_cli.cli.app import app
from msfser_cli.cli.log import EVENTS
from msfser_cli.profiles import PROFILES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
OPTIONS = {name: {flag for part in (command, *getattr(command, "commands", {}).values()) for p in part.params for flag in p.opts}
           | {"--help"} for name, command in COMMANDS.items()}  # fmt: skip
OF_THE_PROGRAM = {flag for p in get_command(app).params for flag in p.opts} | {"--help"}


def section(title: str) -> str:
    """The text under the heading `title`."""
    [text] = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    return str(text)


def blocks(language: str) -> list[str]:
    """The code blocks in `language`."""
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```$", README, re.MULTILINE | re.DOTALL)
    return [str(block) for block in found]


def cells(text: str) -> list[list[str]]:
    """The rows of the tables in `text`, without their headings."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    heads = {i for i, row in enumerate(rows) if i + 1 < len(rows) and set("".join(rows[i + 1])) <= {"-", ":"}}
    return [row for i, row in enumerate(rows) if i not in heads and not set("".join(row)) <= {"-", ":"}]


def invocations() -> list[list[str]]:
    """Every `msfser COMMAND ...` in the code of the README, blocks and inline, as words."""
    code = "\n".join(blocks("bash"))
    lines = re.findall(r"msfser ((?:[a-z]+)\b[^\n&|]*)", code) + re.findall(r"`msfser ([a-z]+\b[^`]*)`", README)
    return [shlex.split(line) for line in lines]


def test_every_command_is_there_and_no_other() -> None:
    assert {words[0] for words in invocations()} == set(COMMANDS)
    assert [*(row[0].strip("`") for row in cells(section("Seven commands, or one"))), "models"] == list(COMMANDS)
    below = {words[1] for words in invocations() if words[0] == "models"}
    assert below == set(COMMANDS["models"].commands)


@pytest.mark.parametrize("words", invocations(), ids=" ".join)
def test_every_option_of_an_example_is_one_of_its_command(words: list[str]) -> None:
    assert {word for word in words if word.startswith("-") and word != "-"} <= OPTIONS[words[0]]


def test_every_option_that_is_mentioned_exists() -> None:
    mentioned = set(re.findall(r"`(?:[^`\n]*\s)?(--[a-z-]+)[^`]*`", README))
    assert mentioned
    assert mentioned <= set().union(*OPTIONS.values()) | OF_THE_PROGRAM


def test_the_exit_codes_are_those_of_the_errors() -> None:
    def below(kind: type[errors.MsfserError]) -> list[type[errors.MsfserError]]:
        return [kind, *(deeper for sub in kind.__subclasses__() for deeper in below(sub))]

    codes = {"0", str(errors.EXIT_SOME_FAILED), "128+N", *(str(kind.exit_code) for kind in below(errors.MsfserError))}
    listed = [row[0] for row in cells(section("What it promises"))]
    assert sorted(listed) == sorted(codes)
    text = CliRunner().invoke(app, ["--help"]).stdout
    assert all(re.search(rf"^\W*{re.escape(code)}\s", text, re.MULTILINE) for code in codes)


def test_every_promise_names_the_tests_that_hold_it() -> None:
    promises = re.findall(r"^\d+\. .*?(?=^\d+\. |^\|)", section("What it promises"), re.MULTILINE | re.DOTALL)
    assert len(promises) > 10
    assert all(re.search(r"\]\(tests/[a-z/_]+\.py\)", promise) for promise in promises)  # that they exist, another test says
    rows = cells((ROOT / "tests/COVERAGE.md").read_text(encoding="utf-8"))
    assert [int(row[0]) for row in rows] == list(range(1, len(promises) + 1))
    for row in rows:
        for name in re.findall(r"`([a-z_]+/(?:[a-zA-Z_.]+)?)`", " ".join(row)):
            assert (ROOT / "tests" / name).exists(), name


def test_the_tables_name_every_column() -> None:
    rows = cells(section("The table"))
    listed = [name for row in rows for name in re.findall(r"`([^`]+)`", row[0])]
    # recording_id is in both tables; embed keeps its columns in the order in which the README explains them.
    assert listed == schemas.names(schemas.columns_through("predict")) + schemas.names(schemas.RECORDINGS)
    assert all(row[1] for row in rows)


def test_the_statuses_are_those_of_the_schema() -> None:
    [status] = [row[1] for row in cells(section("The table")) if row[0] == "`status`"]
    [column] = [c for c in schemas.RECORDINGS if c.name == "status"]
    assert re.findall(r"`([^`]+)`", status) == column.range.split(", ")


def test_the_events_are_those_of_the_log() -> None:
    assert [row[0].strip("`") for row in cells(section("Night after night"))] == list(EVENTS)


def test_the_reasons_are_those_of_the_ledger() -> None:
    [listed] = re.findall(r"A reason is one of (.*?);", README, re.DOTALL)
    assert re.findall(r"`(\w+)`", listed) == list(errors.REASONS)


def test_the_back_ends_are_those_that_come_with_it() -> None:
    rows = {row[0].strip("`"): re.findall(r"`([^`]+)`", row[2]) for row in cells(section("Seven commands, or one"))}
    by_command = {"transcribe": "transcribers", "emphasize": "emphasizers", "describe": "describers", "embed": "encoders"}
    for command, kind in by_command.items():
        assert sorted(rows[command]) == names(kind)
    assert set(re.findall(r"`msfser\.([a-z]+)`", section("Adding a back end"))) == set(KINDS)


def test_the_profiles_are_there() -> None:
    assert all(f"`{profile}`" in README for profile in PROFILES)


def test_the_configuration_file_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [example] = [block for block in blocks("toml") if "[predict]" in block]
    (tmp_path / "msfser.toml").write_text(example)
    monkeypatch.chdir(tmp_path)
    # The first thing that the program looks at beyond its configuration is the corpus, which is not there.
    result = CliRunner().invoke(app, ["predict", "nowhere"])
    assert isinstance(result.exception, errors.UsageError)
    assert str(result.exception) == "nowhere: no such file or folder"
    (tmp_path / "msfser.toml").write_text(example.replace("keep-vectors", "keep-victors"))
    with pytest.raises(errors.UsageError, match="there is no option"):
        CliRunner().invoke(app, ["predict", "nowhere"], catch_exceptions=False)


@pytest.mark.parametrize("document", ["README.md", "THIRD_PARTY.md", "CHANGELOG.md", "tests/COVERAGE.md", *(
    str(p.relative_to(ROOT)) for p in sorted((ROOT / "recipes").rglob("README.md")))])
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
