"""`msfser models export`, and the folder that it fills: read without a network, and trusted no further than hashes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from kit.small_hub import Hub, Machine, sha256
from msfser_cli.errors import ModelError
from msfser_cli.model_store import manifest, models

pytestmark = pytest.mark.process

Trials = Callable[[str, int], Iterator[int]]


@pytest.fixture
def exported(machine: Machine, hub: Hub) -> Path:
    """Two models in a folder: one registered, one not."""
    texts = {"config__json": b"{}", "vocab__json": b"{}"}
    one = hub.publish("a/one", model__safetensors=save({"a": torch.ones(2)}), **texts)
    hub.publish("b/other", model__safetensors=save({"a": torch.zeros(100_000)}), **texts)
    machine.register("one", "a/one", one, {name: sha256(content) for name, content in hub.models["a/one"].items()})
    machine.run("models", "fetch", "one", "b/other")
    machine.run("models", "export", "folder", "one", "b/other")
    return machine.folder / "folder"


@pytest.fixture
def airgapped(machine: Machine, exported: Path, hub: Hub) -> Machine:
    """A machine that has the folder, read-only, and nothing else; the hub's address leads nowhere."""
    other = Machine(machine.folder.parent / "airgapped", "http://127.0.0.1:9")
    shutil.copytree(machine.data, other.data, dirs_exist_ok=True)
    shutil.move(exported, other.folder / "models")
    hub.asked.clear()
    return other


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


def test_the_folder_and_its_manifest(machine: Machine, hub: Hub, exported: Path) -> None:
    other = f"b--other@{hub.commit('b/other')}"
    assert sorted(p.name for p in exported.iterdir()) == [other, "models.json", "one"]
    listed = json.loads((exported / "models.json").read_text())["models"]
    assert listed["one"]["source"] == "a/one"
    assert listed["one"]["license"] == "MIT"
    assert listed[other]["revision"] == hub.commit("b/other")
    for name, entry in listed.items():
        assert {p.name for p in (exported / name).iterdir()} == set(entry["files"])
        for file, about in entry["files"].items():
            content = (exported / name / file).read_bytes()
            assert about == {"sha256": sha256(content), "size": len(content)}
            assert stat.S_ISREG((exported / name / file).lstat().st_mode)
    before = snapshot(exported)
    said = machine.run("models", "export", "folder", "one", "b/other")
    assert said.count("already in") == 2
    assert snapshot(exported) | {"models.json": before["models.json"]} == before


def test_a_machine_without_a_network_reads_it(airgapped: Machine, hub: Hub) -> None:
    """By the option, the variable and the file; read-only; nothing is written there or into a cache."""
    folder = airgapped.folder / "models"
    before = snapshot(folder)
    names = ["one", "b/other", f"b/other@{hub.commit('b/other')}"]
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    rows = airgapped.listed("--models-dir", "models", *names)
    assert {row["present"] for row in rows.values()} == {"models dir"}
    airgapped.run("models", "verify", *names, MSFSER_MODELS_DIR="models")
    (airgapped.folder / "msfser.toml").write_text('models-dir = "models"\n')
    airgapped.run("models", "verify", *names)
    locates = "import sys; from msfser_cli.model_store import models; print(models.locate(sys.argv[1]))"
    for name in names[1:]:
        command, environment = [sys.executable, "-c", locates, name], {**airgapped.environment, "MSFSER_MODELS_DIR": "models"}
        found = subprocess.check_output(command, cwd=airgapped.folder, env=environment, text=True)
        assert str(folder) in found
        assert f"identity='b/other@{hub.commit('b/other')}'" in found
    assert snapshot(folder) == before
    assert not airgapped.files()
    assert not hub.asked
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An exported folder with one model, that this process reads."""
    target = tmp_path / "models" / f"b--other@{'1' * 40}"
    target.mkdir(parents=True)
    files = {"config.json": b"{}", "model.safetensors": save({"a": torch.ones(2)})}
    for name, content in files.items():
        (target / name).write_bytes(content)
    entry = manifest.Entry("b/other", "1" * 40, "", {n: manifest.File(sha256(c), len(c)) for n, c in files.items()})
    manifest.write_manifest(target.parent, {target.name: entry})
    monkeypatch.setenv("MSFSER_MODELS_DIR", str(target.parent))
    monkeypatch.setenv("MSFSER_CACHE", str(tmp_path / "cache"))
    models.locate.cache_clear()
    assert models.locate("b/other").path == target
    models.locate.cache_clear()
    yield target
    models.locate.cache_clear()


def _manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def apply(target: Path) -> None:
        path = target.parent / "models.json"
        document = json.loads(path.read_text())
        change(document["models"])
        path.write_text(json.dumps(document))

    return apply


def _entry(**changes: Any) -> Callable[[Path], object]:
    return _manifest(lambda listed: next(iter(listed.values())).update(changes))


def _file(name: str, digest: str = sha256(b"{}"), size: Any = 2) -> Callable[[Path], object]:
    """A file that is listed, and there."""

    def apply(target: Path) -> None:
        path = target / name.format(target.parent.parent)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"{}")
        about = {"sha256": digest, "size": size}
        _manifest(lambda listed: next(iter(listed.values()))["files"].update({name.format(target.parent.parent): about}))(target)

    return apply


def _elsewhere(name: str) -> Callable[[Path], object]:
    """A link in place of a file or the folder itself, to the same content elsewhere."""

    def apply(target: Path) -> None:
        path = target / name if name else target
        moved = path.rename(target.parent.parent / "moved")
        path.symlink_to(moved)

    return apply


def _moved(name: str) -> Callable[[Path], object]:
    """The model in a folder of another name, where it is, too."""

    def apply(target: Path) -> None:
        moved = name.format(target.parent.parent)
        shutil.copytree(target, target.parent / moved, dirs_exist_ok=True)
        _manifest(lambda listed: listed.update({moved: listed.popitem()[1]}))(target)

    return apply


TAMPERED: dict[str, Callable[[Path], object]] = {
    "another byte": lambda t: (t / "model.safetensors").write_bytes((t / "model.safetensors").read_bytes()[:-1] + b"!"),
    "cut": lambda t: (t / "model.safetensors").write_bytes((t / "model.safetensors").read_bytes()[:-1]),
    "a file gone": lambda t: (t / "config.json").unlink(), "a folder gone": shutil.rmtree,
    "one file more": lambda t: (t / "adapter_config.json").write_text("{}"), "code": lambda t: (t / "evil.py").write_text(""),
    "a pickle more": lambda t: (t / "pytorch_model.bin").write_bytes(b"\x80\x04."),
    "a link to a file": _elsewhere("model.safetensors"), "a link to a folder": _elsewhere(""),
    "a folder elsewhere": _moved("../moved"), "an absolute folder": _moved("{}/moved"), "the folder itself": _moved("."),
    "a folder without a name": _moved(""), "a file elsewhere": _file("../x.json"), "an absolute file": _file("{}/x.json"),
    "a file below": _file("more/config.json"), "a pickle": _file("pytorch_model.bin"), "a pickle's index": _file(
        "pytorch_model.bin.index.json"
    ), "listed code": _file("evil.py"), "a hidden file": _file(".hidden.json"), "no hash": _file("config.json", ""),
    "another hash": _file("config.json", "../../../etc/passwd"), "no size": _file("config.json", size="1"),
    "no files": _entry(files=None), "files in a list": _entry(files=["config.json"]), "an unknown field": _entry(code="print()"),
    "no source": _entry(source=""), "a source elsewhere": _entry(source="../b/other"), "a branch": _entry(revision="main"),
    "no object": _manifest(lambda listed: listed.update(one=3)), "a name with a line break": _moved("one\nmore"),
    "no manifest": lambda t: (t.parent / "models.json").unlink(), "no JSON": lambda t: (t.parent / "models.json").write_text("{"),
    "a list": lambda t: (t.parent / "models.json").write_text("[]"), "deep": lambda t: (t.parent / "models.json").write_text(
        "[" * 100_000
    ), "large": lambda t: (t.parent / "models.json").write_text(" " * 30_000_000), "a pipe": lambda t: (
        (t.parent / "models.json").unlink(), os.mkfifo(t.parent / "models.json")
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", TAMPERED)
def test_a_folder_that_was_tampered_with_is_refused(folder: Path, attack: str) -> None:
    TAMPERED[attack](folder)
    with pytest.raises(ModelError, match=str(folder.parent.parent)):
        models.locate("b/other")


def test_a_manifest_cannot_give_a_registered_name_to_something_else(folder: Path) -> None:
    """Not the hashes, the revision or the files."""
    model = models.registry()["minilm-l6"]
    (folder / "tokenizer.json").write_text("{}")
    files = {path.name: manifest.File(sha256(path.read_bytes()), 1) for path in folder.iterdir()}
    shutil.copytree(folder, folder.parent / "minilm-l6")

    def give(entry: manifest.Entry) -> None:
        manifest.write_manifest(folder.parent, {"minilm-l6": entry})
        models.locate.cache_clear()

    give(manifest.Entry(model.source, model.revision, "", files))
    with pytest.raises(ModelError, match="export it again"):
        models.locate("minilm-l6")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(folder / "config.json", folder.parent / "minilm-l6" / name)
        files[name] = files["config.json"]
    give(manifest.Entry(model.source, model.revision, "", files))
    with pytest.raises(ModelError, match="not the published"):
        models.locate("minilm-l6")
    give(manifest.Entry(model.source, "2" * 40, "", files))
    with pytest.raises(ModelError, match="but this msfser needs"):
        models.locate("minilm-l6")


def test_which_revision_is_meant_must_be_said(folder: Path) -> None:
    entry = manifest.read_manifest(folder.parent)[folder.name]
    second = folder.parent / f"b--other@{'2' * 40}"
    shutil.copytree(folder, second)
    both = {folder.name: entry, second.name: manifest.Entry("b/other", "2" * 40, "", entry.files)}
    manifest.write_manifest(folder.parent, both)
    with pytest.raises(ModelError, match=r"choose one of b/other@1+, b/other@2+"):
        models.locate("b/other")
    assert models.locate(f"b/other@{'2' * 40}").path == second


def test_what_no_export_made_stays(machine: Machine, exported: Path) -> None:
    (exported / "one" / "mine.txt").write_text("mine")
    assert "mine.txt, which is not from an export" in machine.run("models", "export", "folder", "one", code=2)
    assert (exported / "one" / "mine.txt").read_text() == "mine"


def test_nothing_is_exported_that_is_not_as_published(machine: Machine, exported: Path) -> None:
    weights = Path(machine.listed("one")["one"]["folder"]) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert "not the published" in machine.run("models", "export", "new", "b/other", "one", code=5)
    assert "msfser models fetch nobody/nothing" in machine.run("models", "export", "new", "nobody/nothing", code=5)
    assert not (machine.folder / "new").exists()


def test_an_altered_copy_is_made_again(machine: Machine, exported: Path) -> None:
    (exported / "one" / "config.json").write_text("[]")
    assert "not the published" in machine.run("models", "verify", "one", "--models-dir", "folder", code=5)
    machine.run("models", "export", "folder", "one")
    machine.run("models", "verify", "one", "--models-dir", "folder")


def test_killed_at_any_moment_and_exported_again(machine: Machine, exported: Path, trials: Trials) -> None:
    """What is listed is whole; the same command goes on, and leaves what a run that was left alone leaves."""
    began = time.monotonic()
    machine.run("models", "export", "whole", "one", "b/other")
    took = time.monotonic() - began
    for seed in trials("exports killed", 4):
        target = machine.folder / f"killed-{seed}"
        process = machine.start("models", "export", target.name, "one", "b/other")
        if seed % 2:
            time.sleep(random.Random(seed).uniform(0.5, 1) * took)
        else:
            while not target.exists():
                time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if (target / "models.json").exists():
            for name in manifest.read_manifest(target):
                machine.run("models", "verify", name.partition("@")[0].replace("--", "/"), "--models-dir", target.name)
        machine.run("models", "export", target.name, "one", "b/other")
        machine.run("models", "verify", "one", "b/other", "--models-dir", target.name)
        assert {p.relative_to(target) for p in target.rglob("*")} == {p.relative_to(exported) for p in exported.rglob("*")}
