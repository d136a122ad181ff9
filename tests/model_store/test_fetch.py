"""`msfser models fetch` against a hub on this machine, in real processes: what it gets, what it refuses, what is left."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kit.small_hub import Hub, Machine, sha256

pytestmark = pytest.mark.process

Trials = Callable[[str, int], Iterator[int]]
TEXTS = {"config__json": b'{"model_type": "wavlm"}', "preprocessor_config__json": b"{}"}
SOURCE, NAME = "somebody/some-model", "some-model"


def pickled(tensors: dict[str, Any], **how: Any) -> bytes:
    content = io.BytesIO()
    torch.save(tensors, content, **how)
    return content.getvalue()


def large(size: int = 3_000_000) -> bytes:
    return random.Random(0).randbytes(size)


def registered(machine: Machine, hub: Hub, **files: bytes) -> str:
    """A model with these files, published and registered with all hashes; its commit."""
    commit = hub.publish(SOURCE, **files)
    machine.register(NAME, SOURCE, commit, {name: sha256(content) for name, content in hub.models[SOURCE].items()})
    return commit


def test_a_profile_is_fetched_verified_and_then_left_alone(machine: Machine, hub: Hub) -> None:
    """What is loaded and nothing else, once; then without a network."""
    commit = registered(machine, hub, model__safetensors=large(), **TEXTS)
    hub.models[SOURCE] |= {"pytorch_model.bin": b"x", "evil.py": b"x", "onnx/model.onnx": b"x"}
    hub.commit = lambda source: commit  # type: ignore[method-assign]
    before = machine.listed()[NAME]
    assert (before["present"], before["size_bytes"], before["used_by"]) == (None, None, ["embed"])
    assert f"is not on this machine; run: msfser models fetch {NAME}" in machine.run("models", "verify", code=5)
    assert "1 model present and verified" in machine.run("models", "fetch")
    assert set(hub.asked) == {"model.safetensors", "config.json", "preprocessor_config.json"}
    after = machine.listed()[NAME]
    assert (after["present"], after["size_bytes"], after["revision"]) == ("hub cache", 3_000_025, commit)
    assert {path.name for path in Path(after["folder"]).iterdir()} == set(hub.asked)
    hub.asked.clear()
    assert "already present" in machine.run("models", "fetch", HF_HUB_OFFLINE="1")
    machine.run("models", "verify", "--quiet")
    assert not hub.asked


def test_what_was_altered_is_named_by_verify_and_got_anew_by_fetch(machine: Machine, hub: Hub) -> None:
    registered(machine, hub, model__safetensors=large(), **TEXTS)
    machine.run("models", "fetch")
    weights = Path(machine.listed()[NAME]["folder"]) / "model.safetensors"
    with weights.open("r+b") as file:
        file.write(b"!")
    said = machine.run("models", "verify", code=5)
    assert f"{weights}: not the published model.safetensors of {SOURCE}" in said
    assert "run: msfser models fetch some-model" in said
    hub.asked.clear()
    machine.run("models", "fetch")
    assert set(hub.asked) == {"model.safetensors"}
    assert weights.read_bytes() == large()


def test_an_unregistered_model_is_pinned_and_chosen_from(machine: Machine, hub: Hub) -> None:
    """A branch becomes a commit; of several weights one; no pickle, no code, no adapters."""
    junk = dict.fromkeys(("pytorch_model__bin", "evil__py", "tf_model__h5", "training_args__bin", "adapter_config__json"), b"x")
    junk |= {"pytorch_model__bin__index__json": b"{}", "model__fp16__safetensors": b"x", "model__bin": b"x"}
    commit = hub.publish(SOURCE, model__safetensors=large(), **TEXTS, **junk)
    hub.models[SOURCE]["more/config.json"] = b"{}"
    hub.commit = lambda source: commit  # type: ignore[method-assign]
    machine.register("other", "other/other", "0" * 40, {"model.safetensors": ""})
    machine.run("models", "fetch", SOURCE)
    assert set(hub.asked) == {"info", "model.safetensors", "config.json", "preprocessor_config.json"}
    for name in (SOURCE, f"{SOURCE}@{commit}"):
        row = machine.listed(name)[name]
        assert (row["present"], row["revision"]) == ("hub cache", commit)
    machine.run("models", "verify", SOURCE, f"{SOURCE}@main")
    (Path(row["folder"]) / "config.json").write_text("{}")  # which writes to what it links to
    assert "config.json: not the published" in machine.run("models", "verify", SOURCE, code=5)
    machine.run("models", "fetch", SOURCE)
    machine.run("models", "verify", SOURCE, HF_HUB_OFFLINE="1")


@pytest.mark.parametrize("published", [
    {"model__safetensors": b"s", "model-00001-of-00001__safetensors": b"x"},
    {f"model-0000{n}-of-00002__safetensors": b"s" for n in (1, 2)} | {"model__safetensors__index__json": b"{}"},
    {"model__bin": b"s", "vocabulary__txt": b"s", "pytorch_model__bin": b"x"},
])  # fmt: skip
def test_which_weights_are_fetched(machine: Machine, hub: Hub, published: dict[str, bytes]) -> None:
    hub.publish(SOURCE, **published, config__json=b"{}")
    machine.register("other", "other/other", "0" * 40, {"model.safetensors": ""})
    machine.run("models", "fetch", SOURCE)
    assert set(hub.asked) - {"info"} == {name for name, content in hub.models[SOURCE].items() if content != b"x"}


def test_a_model_that_comes_with_code_is_refused_before_its_weights(machine: Machine, hub: Hub) -> None:
    config = json.dumps({"auto_map": {"AutoModel": "modeling_own.OwnModel"}}).encode()
    hub.publish(SOURCE, model__safetensors=large(), config__json=config, modeling_own__py=b"x")
    machine.register("other", "other/other", "0" * 40, {"model.safetensors": ""})
    assert f"model {SOURCE} comes with its own code" in machine.run("models", "fetch", SOURCE, code=5)
    assert set(hub.asked) <= {"info", "config.json"}


def test_what_cannot_be_had_keeps_nothing_else_from_being_fetched(machine: Machine, hub: Hub) -> None:
    machine.register("gone", "somebody/gone", "0" * 40, {"model.safetensors": ""})
    registered(machine, hub, model__safetensors=large(), **TEXTS)
    assert "gone: model.safetensors: " in machine.run("models", "fetch", code=5)
    assert machine.listed()[NAME]["present"] == "hub cache"


REFUSED: dict[str, tuple[dict[str, Any], dict[int, str], list[str]]] = {
    "gated": ({"config.json": 403, "info": 403}, {403: "GatedRepo"}, ["this model is gated", "HF_TOKEN"]),
    "gated, not said": ({"config.json": 403, "info": 403}, {}, ["this model is gated", "HF_TOKEN"]),
    "no account": ({"config.json": 401, "info": 401}, {401: "RepoNotFound"}, ["does not have this model", "HF_TOKEN"]),
    "no account, gated": ({"config.json": 401, "info": 401}, {401: "GatedRepo"}, ["this model is gated", "HF_TOKEN"]),
    "no model": ({"config.json": 404, "info": 404}, {404: "RepoNotFound"}, ["does not have this model"]),
    "no revision": ({"config.json": 404, "info": 404}, {404: "RevisionNotFound"}, ["does not have this revision"]),
    "out of order": ({"config.json": 500, "info": 500}, {}, ["answered with status 500", "run the same command again"]),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", [NAME, SOURCE])
@pytest.mark.parametrize("case", REFUSED)
def test_a_hub_that_refuses_is_quoted_in_a_sentence(machine: Machine, hub: Hub, case: str, name: str) -> None:
    hub.trouble, hub.errors, says = REFUSED[case]
    registered(machine, hub, config__json=b"{}", model__safetensors=large())
    said = machine.run("models", "fetch", name, "--quiet", code=5)
    assert all(part in said for part in says), said
    assert said.count("\n") == 1
    assert machine.listed()[NAME]["present"] is None


@pytest.mark.slow
def test_a_hub_that_is_not_there_is_said_so(machine: Machine, hub: Hub) -> None:
    registered(machine, hub, config__json=b"{}", model__safetensors=large())
    said = machine.run("models", "fetch", code=5, HF_ENDPOINT="http://127.0.0.1:9")
    assert "some-model: config.json: the hub does not answer, or the connection broke; run the same command again" in said


@pytest.mark.slow
@pytest.mark.parametrize("value", ["1", "ON"])
def test_offline_is_the_user_s_word(machine: Machine, hub: Hub, value: str) -> None:
    registered(machine, hub, config__json=b"{}", model__safetensors=large())
    assert "HF_HUB_OFFLINE forbids fetching it" in machine.run("models", "fetch", code=2, HF_HUB_OFFLINE=value)
    assert "HF_HUB_OFFLINE forbids fetching it" in machine.run("models", "fetch", SOURCE, code=2, HF_HUB_OFFLINE=value)
    assert not hub.asked
    machine.run("models", "fetch", HF_HUB_OFFLINE="0")


@pytest.mark.slow
def test_a_download_that_is_cut_goes_on_with_the_next_command(machine: Machine, hub: Hub) -> None:
    registered(machine, hub, config__json=b"{}", model__safetensors=large(25_000_000))  # written 10 MiB at a time
    hub.trouble, hub.cut_after = {"model.safetensors": "cut"}, 11 << 20
    for _ in range(2):
        said = machine.run("models", "fetch", code=5)
        assert "the connection broke; run the same command again to continue" in said
        assert machine.listed()[NAME]["present"] is None
    machine.run("models", "fetch")
    assert hub.resumed == ["model.safetensors"] * 2
    machine.run("models", "verify")


@pytest.mark.parametrize("name", [NAME, SOURCE])
def test_wrong_bytes_are_removed_and_never_used(machine: Machine, hub: Hub, name: str) -> None:
    registered(machine, hub, config__json=b"{}", model__safetensors=large())
    hub.trouble = {"model.safetensors": "wrong"}
    said = machine.run("models", "fetch", name, code=5)
    assert "the fetched file is not as published" in said
    assert machine.listed(name)[name]["present"] is None
    assert not [file for file in machine.files() if (machine.folder / file).stat().st_size > 1000]
    hub.trouble = {}
    machine.run("models", "fetch", name)
    machine.run("models", "verify", name)


# Pickles


@pytest.mark.slow
def test_a_registered_pickle_becomes_safetensors_once(machine: Machine, hub: Hub) -> None:
    tied = torch.arange(6.0).reshape(2, 3)
    tensors = {"a.weight_g": tied.t(), "a.weight_v": tied, "tied": tied, "n": torch.tensor(3)}
    commit = registered(machine, hub, pytorch_model__bin=pickled(tensors), **TEXTS)
    machine.run("models", "fetch")
    row = machine.listed()[NAME]
    assert row["present"] == "cache"
    folder = Path(row["folder"])
    assert folder == machine.cache / "models" / f"{NAME}-{commit[:12]}"
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors", "config.json", "preprocessor_config.json", "receipt.json"}  # fmt: skip
    receipt = json.loads((folder / "receipt.json").read_text())
    assert receipt["converted_from"] == sha256(hub.models[SOURCE]["pytorch_model.bin"])
    assert receipt["files"]["model.safetensors"]["sha256"] == sha256((folder / "model.safetensors").read_bytes())
    from safetensors.torch import load_file

    made = load_file(folder / "model.safetensors")
    assert made.keys() == tensors.keys()
    assert all(torch.equal(made[name], tensor) for name, tensor in tensors.items())
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert "already present" in machine.run("models", "fetch", HF_HUB_OFFLINE="1")
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == written
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    assert "model.safetensors: not the published" in machine.run("models", "verify", code=5)
    # made again from the pickle in the hub's cache, without a network
    machine.run("models", "fetch", HF_HUB_OFFLINE="1")
    machine.run("models", "verify")


@pytest.mark.slow
def test_a_pickle_in_the_hub_s_cache_is_no_model_until_it_is_converted(machine: Machine, hub: Hub) -> None:
    registered(machine, hub, pytorch_model__bin=pickled({"a": torch.ones(3)}), **TEXTS)
    machine.run("models", "fetch")
    for path in sorted((machine.cache / "models").glob("*/*")):
        path.unlink()
    assert machine.listed()[NAME]["present"] is None
    said = machine.run("models", "verify", code=5)
    assert "is on this machine as a pickle, which can run code" in said
    assert f"to convert it, run (works offline): msfser models fetch {NAME}" in said
    machine.run("models", "fetch", HF_HUB_OFFLINE="1")
    assert machine.listed()[NAME]["present"] == "cache"


@pytest.mark.slow
def test_a_pickle_without_a_registered_hash_wants_the_user_s_word(machine: Machine, hub: Hub) -> None:
    commit = hub.publish(SOURCE, pytorch_model__bin=pickled({"a": torch.ones(3)}), **TEXTS)
    machine.register(NAME, SOURCE, commit, {"pytorch_model.bin": "", "config.json": ""})
    for name in (NAME, SOURCE):
        said = machine.run("models", "fetch", name, code=5)
        assert f"msfser models fetch {name} --trust-pickle" in said
        assert not hub.asked["pytorch_model.bin"]
    for name in (NAME, SOURCE, f"{SOURCE}@{commit}"):
        machine.run("models", "fetch", name, "--trust-pickle")
        assert machine.listed(name)[name]["present"] == "cache"
        machine.run("models", "verify", name)
        # from now on without a word
        assert "already present" in machine.run("models", "fetch", name)
    assert hub.asked["pytorch_model.bin"] == 1


@pytest.mark.parametrize("kind", ["wavlm", pytest.param("wav2vec2-ctc", marks=pytest.mark.slow)])
def test_a_converted_model_is_the_one_that_the_pickle_was(machine: Machine, hub: Hub, tmp_path: Path, kind: str) -> None:
    """With the names that weight norm had when the real ones were published."""
    from transformers import AutoModel, Wav2Vec2Config, Wav2Vec2ForCTC, WavLMConfig, WavLMModel

    size = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "conv_dim": (8,) * 7,
        "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
    }  # fmt: skip
    is_wavlm = kind == "wavlm"
    model: Any = WavLMModel(WavLMConfig(**size)) if is_wavlm else Wav2Vec2ForCTC(Wav2Vec2Config(**size, vocab_size=8))
    new = "parametrizations.weight.original"
    old = {n.replace(f"{new}0", "weight_g").replace(f"{new}1", "weight_v"): t for n, t in model.state_dict().items()}
    assert any(name.endswith("weight_g") for name in old)
    config = model.config.to_json_string().encode()
    pickle = pickled(old, _use_new_zipfile_serialization=is_wavlm)
    registered(machine, hub, pytorch_model__bin=pickle, config__json=config)
    machine.run("models", "fetch")
    (tmp_path / "pytorch_model.bin").write_bytes(pickle)
    (tmp_path / "config.json").write_bytes(config)
    loads = AutoModel if is_wavlm else Wav2Vec2ForCTC
    one, found = loads.from_pretrained(tmp_path, use_safetensors=False, output_loading_info=True)
    other, made = loads.from_pretrained(machine.listed()[NAME]["folder"], use_safetensors=True, output_loading_info=True)
    assert not made["missing_keys"]
    assert found == made
    assert one.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())
    audio = torch.randn(1, 4000)
    with torch.inference_mode():
        assert torch.equal(one.eval()(audio)[0], other.eval()(audio)[0])


# Killed


@pytest.mark.slow
def test_killed_at_any_moment_and_run_again(machine: Machine, hub: Hub, trials: Trials) -> None:
    """While it fetches and while it converts: what is there then is whole or not used, and the end is the same."""
    registered(machine, hub, pytorch_model__bin=pickled({"a": torch.zeros(1_000_000)}), **TEXTS)
    hub.trouble = {"pytorch_model.bin": "slow"}
    began = time.monotonic()
    machine.run("models", "fetch")
    whole, files = time.monotonic() - began, machine.files()
    for seed in trials("fetches killed", 4):
        fresh = Machine(machine.folder.parent / f"{seed}", hub.address)
        fresh.register(NAME, SOURCE, hub.commit(SOURCE), {name: sha256(content) for name, content in hub.models[SOURCE].items()})
        process = fresh.start("models", "fetch")
        # most often in the second half, where things happen
        time.sleep(random.Random(seed).triangular(0, whole, whole * 0.8))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if fresh.listed()[NAME]["present"]:
            fresh.run("models", "verify")
        fresh.run("models", "fetch")
        fresh.run("models", "verify")
        assert fresh.files() == files


def test_a_signal_ends_it_and_it_goes_on(machine: Machine, hub: Hub) -> None:
    registered(machine, hub, config__json=b"{}", model__safetensors=large(8_000_000))
    hub.trouble = {"model.safetensors": "slow"}
    process = machine.start("models", "fetch")
    while not list(machine.hub_cache.rglob("*.incomplete")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert "stopped by SIGTERM" in process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert machine.listed()[NAME]["present"] is None
    hub.trouble = {}
    machine.run("models", "fetch")
    machine.run("models", "verify")
