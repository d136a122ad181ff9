"""`msfser models` at the command line: the table and its JSON, the log, and --models-dir from every place that an option has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kit.program import Done, run_afresh
from msfser_cli.model_store.registry import WITH_CODE, registry
from msfser_cli.profiles import models_of

pytestmark = pytest.mark.process


def msfser(folder: Path, *arguments: str, **environment: str) -> Done:
    return run_afresh(folder, *arguments, **{"HF_HUB_CACHE": str(folder / "hub"), **environment})


@pytest.mark.parametrize("profile", ["mini", "paper"])
def test_every_model_of_a_profile_is_listed(tmp_path: Path, profile: str) -> None:
    done = msfser(tmp_path, "models", "list", "--profile", profile, "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert {name: row["used_by"] for name, row in rows.items()} == models_of(profile)
    for name, row in rows.items():
        if name in WITH_CODE:
            assert (row["source"], row["present"], row["used_by"]) == (name, None, ["describe"])
            continue
        known = registry()[name]
        assert (row["source"], row["revision"], row["license"]) == (known.source, known.revision, known.license)
        assert row["present"] in (("cache", "wheels") if profile == "mini" else (None,))
        assert row["size_bytes"] == known.size or (row["present"] and row["size_bytes"] > known.size) or row["size_bytes"] is None


@pytest.mark.parametrize("columns", ["80", "130"])
def test_the_table_fits_and_says_what_to_do(tmp_path: Path, columns: str) -> None:
    done = msfser(tmp_path, "models", "list", COLUMNS=columns)
    assert (done.returncode, done.stderr) == (0, "")
    words = ("whisper-base", "transcribe, embed", "all-MiniLM-L6-v2", "@1110a243fdf4", "Apache-2.0", "MB")
    assert all(word in done.stdout for word in words)
    done = msfser(tmp_path, "models", "list", "--profile", "paper", COLUMNS=columns)
    assert done.stdout.count("missing") == len(models_of("paper"))
    assert max(map(len, done.stdout.splitlines())) <= int(columns)
    assert done.stderr == "to get the missing models, run: msfser models fetch --profile paper\n"


def test_the_profile_comes_from_the_file_or_the_environment_too(tmp_path: Path) -> None:
    (tmp_path / "msfser.toml").write_text('profile = "paper"\n')
    assert "wavlm-large" in msfser(tmp_path, "models", "list").stdout
    (tmp_path / "msfser.toml").write_text('[models]\nprofile = "paper"\n')
    assert "wavlm-large" in msfser(tmp_path, "models", "list").stdout
    assert "whisper-base" in msfser(tmp_path, "models", "list", "--profile", "mini").stdout
    (tmp_path / "msfser.toml").write_text('[models]\nout = "x"\n')
    assert "there is no option models.out" in msfser(tmp_path, "models", "list").stderr


def test_what_is_missing_is_an_error_of_verify_alone(tmp_path: Path) -> None:
    done = msfser(tmp_path, "models", "verify", "--profile", "paper")
    assert done.returncode == 5
    said = done.stderr.splitlines()
    left_out = [f"{name}: comes with its own code, so msfser leaves it out; if you trust it, run: hf download {name}"
                for name in WITH_CODE]
    assert said[: len(left_out)] == left_out
    lines = zip([name for name in models_of("paper") if name not in WITH_CODE], said[len(left_out) :], strict=True)
    assert all(line.endswith(f"run: msfser models fetch {name}") for name, line in lines)
    done = msfser(tmp_path, "models", "verify", "nobody/nothing", "minilm-l6", "--log-format", "json")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [event["event"] for event in events] == ["note", "error"]
    assert events[-1]["exit_code"] == 5


def test_a_run_reads_an_exported_folder_first(tmp_path: Path) -> None:
    """By the line, the variable and the file; what was altered there is refused before any work."""
    done = msfser(tmp_path, "models", "export", "carried", "minilm-l6")
    assert done.returncode == 0, done.stderr
    config = tmp_path / "carried" / "minilm-l6" / "config.json"
    config.write_text(config.read_text() + " ")
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    (tmp_path / "msfser.toml").write_text("")
    run = ("predict", "a.wav", "--out", "new.parquet")
    refused = [msfser(tmp_path, *run, "--models-dir", "carried"), msfser(tmp_path, *run, MSFSER_MODELS_DIR="carried")]
    (tmp_path / "msfser.toml").write_text('models-dir = "carried"\n')
    refused.append(msfser(tmp_path, *run))
    for done in refused:
        assert done.returncode == 5
        assert f"{config}: not the published config.json" in done.stderr
        assert "export it again" in done.stderr
    assert not (tmp_path / "new.parquet").exists()
    done = msfser(tmp_path, *run, "--models-dir", "nowhere")
    assert (done.returncode, "nowhere: not a folder of models, it has no models.json" in done.stderr) == (5, True)


def test_a_model_with_code_that_is_named_is_refused(tmp_path: Path) -> None:
    for command in ("fetch", "verify"):
        done = msfser(tmp_path, "models", command, *WITH_CODE)
        assert (done.returncode, f"hf download {WITH_CODE[0]}" in done.stderr) == (5, True)


def test_a_profile_s_aligners_are_those_of_the_languages_that_are_asked_for(tmp_path: Path) -> None:
    listed = msfser(tmp_path, "models", "list", "--profile", "paper", "--language", "en", "--language", "de", "--json")
    names = [row["name"] for row in json.loads(listed.stdout)]
    assert [name for name in names if name.startswith("aligner-")] == ["aligner-en", "aligner-de"]
    assert {"whisper-large-v3", "wavlm-large", "roberta-large", *WITH_CODE} < set(names)
    done = msfser(tmp_path, "models", "list", "--profile", "paper", "--language", "xx")
    assert (done.returncode, "msfser has no aligner for xx; choose from de, en" in done.stderr) == (2, True)
