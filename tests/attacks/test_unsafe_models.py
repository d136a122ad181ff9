"""Nothing that is loaded can run code or take the machine away: whatever lies in a model's folder, through every option that
names one. Each attack would leave a canary behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import random
import shutil
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from kit.hostile import damage, write_stage
from kit.program import Program
from msfser_cli.backends.registry import loaded
from msfser_cli.errors import ModelError, TableError, UsageError
from msfser_cli.model import weights
from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.msf_ser import MsfSer
from msfser_cli.model_store import models
from msfser_cli.model_store.fetch import fetch
from msfser_cli.model_store.registry import PICKLE, RegisteredModel, registry
from msfser_cli.runs.corpus import find
from msfser_cli.settings import build
from msfser_cli.store import tables

Trials = Callable[[str, int], Iterator[int]]
Change = Callable[[Path], object]


class Canary:
    """What a pickle of this runs when it is loaded: it makes the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file that must not appear."""
    path = tmp_path / "canary"
    pickle.loads(pickle.dumps(Canary(path)))
    assert path.exists()
    path.unlink()
    yield path
    assert not path.exists()


@pytest.fixture(scope="module")
def speech_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small WavLM with random weights."""
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

    folder = tmp_path_factory.mktemp("wavlm")
    config = WavLMConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, feat_extract_norm="layer", do_stable_layer_norm=True,
    )  # fmt: skip
    WavLMModel(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small MSF-SER checkpoint."""
    folder = tmp_path_factory.mktemp("head") / "head"
    weights.save(folder, MsfSer(MsfSerConfig(acoustic_dim=4, text_dim=4, hidden_dim=4, semantic_dim=4, expert_dim=2, experts=2)))
    return folder


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    models.locate.cache_clear()
    yield
    models.locate.cache_clear()


def pickles(canary: Path) -> dict[str, bytes]:
    """The same canary in every guise that libraries read."""
    plain = pickle.dumps(Canary(canary))
    archive, array = io.BytesIO(), io.BytesIO()
    torch.save({"weights": Canary(canary)}, archive)
    np.save(array, np.array([Canary(canary)], dtype=object), allow_pickle=True)
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("archive/data.pkl", plain)
        file.writestr("archive/version", "3\n")
    return {"plain": plain, "torch": archive.getvalue(), "numpy": array.getvalue(), "zip": zipped.getvalue()}


NAMES = ("model.safetensors", "pytorch_model.bin", "model.pt", "model.ckpt", "model.pkl", "model.npy", "model.bin")


@pytest.mark.model
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("guise", ["plain", "torch", "numpy", "zip"])
def test_a_pickle_runs_through_no_door(
    tmp_path: Path, canary: Path, speech_model: Path, head: Path, guise: str, name: str
) -> None:
    content = pickles(canary)[guise]
    doors: dict[str, Callable[[Path], object]] = {
        "whisper": lambda p: loaded("encoders", "whisper", models.locate(str(p)).path),
        "transformers-speech": lambda p: loaded("encoders", "transformers-speech", models.locate(str(p)).path),
        "transformers-text": lambda p: loaded("encoders", "transformers-text", models.locate(str(p)).path),
        "faster-whisper": lambda p: loaded(
            "transcribers", "faster-whisper", models.locate(str(p)).path, None, build("transcribe", {})
        ),
        "head": lambda p: weights.load(models.checkpoint(str(p)).path),
    }
    for door, load in doors.items():
        folder = Path(shutil.copytree(head if door == "head" else speech_model, tmp_path / door))
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(content)
        with pytest.raises(ModelError, match=door):
            load(folder)
        if door == "head":
            with pytest.raises(ModelError):
                load(folder / name)
    assert not canary.exists()


def _config(**changes: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def _text(name: str, text: str) -> Change:
    return lambda folder: (folder / name).write_text(text)


def _tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return apply


def _index(shard: str, *, name: str = "model.safetensors.index.json", decoy: bool = False) -> Change:
    """Weights in a pickle, or elsewhere, that an index names."""

    def change(folder: Path) -> None:
        names = list(load_file(folder / "model.safetensors"))
        (folder / "model.safetensors").rename(folder / ("model-decoy.safetensors" if decoy else "kept"))
        (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, shard)}))
        target = folder / shard
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(pickle.dumps(Canary(folder.parent / "canary")))

    return change


def _pipe(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


def _first(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return tensors[min(tensors)]


def _code(folder: Path) -> None:
    (folder / "evil.py").write_text(f"open({str(folder.parent / 'canary')!r}, 'w')\n")
    map_ = {"AutoConfig": "evil.C", "AutoModel": "evil.M", "AutoFeatureExtractor": "evil.F", "AutoTokenizer": ["evil.T"] * 2}
    for name in ("config.json", "preprocessor_config.json", "tokenizer_config.json"):
        values = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
        (folder / name).write_text(json.dumps(values | {"auto_map": map_, "model_type": "evil", "feature_extractor_type": "F"}))


ENCODERS: dict[str, Change] = {
    "code": _code,
    "shards that are pickles": _index("evil.bin"),
    "shards that are pickles, and a decoy": _index("evil.bin", decoy=True),
    "shards elsewhere": _index("../elsewhere.safetensors", decoy=True),
    "a pickle's index": _index("evil.bin", name="pytorch_model.bin.index.json"),
    "weights named elsewhere": _config(transformers_weights="../elsewhere.safetensors"),
    "hidden_size": _config(hidden_size=10**9), "negative": _config(hidden_size=-5), "text": _config(hidden_size="x"),
    "layers": _config(num_hidden_layers=10**6), "conv": _config(conv_dim=[10**8] * 7), "infinite": _text(
        "config.json", '{"model_type": "wavlm", "hidden_size": 1e999}'
    ),
    "deep": _text("config.json", "[" * 100_000), "null": _text("config.json", "null"), "empty": _text("config.json", ""),
    "large": _text("config.json", " " * 30_000_000), "a pipe": _pipe("config.json"),
    "deep preprocessor": _text("preprocessor_config.json", '{"a":' * 100_000),
    "missing tensor": _tensors(lambda t: t.pop(min(t))), "not finite": _tensors(lambda t: _first(t).fill_(float("nan"))),
    "wrong shape": _tensors(lambda t: t.update({min(t): torch.zeros(3)})),
    "quantised": _config(quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True}),
    "cut": lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]),
}  # fmt: skip


@pytest.mark.model
@pytest.mark.parametrize("attack", ENCODERS)
def test_an_encoder_that_is_not_what_it_should_be_is_refused(
    tmp_path: Path, canary: Path, speech_model: Path, attack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    folder = Path(shutil.copytree(speech_model, tmp_path / "model"))
    loaded("encoders", "transformers-speech", models.locate(str(folder)).path)
    models.locate.cache_clear()
    ENCODERS[attack](folder)
    with pytest.raises(ModelError, match=str(folder)):
        loaded("encoders", "transformers-speech", models.locate(str(folder)).path)


def _header(change: Callable[[dict[str, Any]], object]) -> Change:
    """A safetensors file whose header was changed."""

    def apply(folder: Path) -> None:
        path = folder / "model.safetensors"
        content = path.read_bytes()
        size = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8 : 8 + size])
        made = change(header)
        text = made if isinstance(made, bytes) else json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])

    return apply


def _offsets(move: Callable[[list[int]], list[int]]) -> Change:
    def change(header: dict[str, Any]) -> None:
        entry = header[min(n for n in header if n != "__metadata__")]
        entry["data_offsets"] = move(entry["data_offsets"])

    return _header(change)


def _length(value: int) -> Change:
    def apply(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(struct.pack("<Q", value) + path.read_bytes()[8:])

    return apply


def _model(**changes: Any) -> Change:
    def change(folder: Path) -> None:
        document = json.loads((folder / "config.json").read_text())
        document["model"] |= changes
        (folder / "config.json").write_text(json.dumps(document))

    return change


HEADS: dict[str, Change] = {
    "header of 200 MB": _length(200_000_000), "header of 2**63": _length(2**63), "no header": _length(0),
    "overlapping": _offsets(lambda o: [o[0], o[1] + 4]), "beyond the end": _offsets(lambda o: [o[0] + 10**9, o[1] + 10**9]),
    "backwards": _offsets(lambda o: [o[1], o[0]]), "negative": _offsets(lambda o: [-o[1], o[0]]),
    "a hole": lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes() + bytes(64)),
    "a deep header": _header(lambda h: b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    "absurd shape": _header(lambda h: h[min(n for n in h if n != "__metadata__")].update(shape=[2**40, 2**40])),
    "other type": _header(lambda h: h[min(n for n in h if n != "__metadata__")].update(dtype="F64")),
    "extra tensor": _tensors(lambda t: t.update(more=torch.zeros(1))), "missing tensor": _tensors(lambda t: t.pop(min(t))),
    "not finite": _tensors(lambda t: _first(t).fill_(float("inf"))),
    "hidden_dim": _model(hidden_dim=10**9), "experts": _model(experts=10**6), "text": _model(hidden_dim="4"),
    "unknown field": _model(code="print()"), "deep": _text("config.json", "[" * 100_000),
    "large": _text("config.json", " " * 2_000_000), "config pipe": _pipe("config.json"),
    "weights pipe": _pipe("model.safetensors"),
    "digits": _text("config.json", '{"format": "msf-ser", "version": ' + "9" * 5000 + "}"),
}  # fmt: skip


@pytest.mark.parametrize("attack", HEADS)
def test_a_head_that_is_not_what_it_should_be_is_refused(tmp_path: Path, head: Path, attack: str) -> None:
    folder = Path(shutil.copytree(head, tmp_path / "head"))
    weights.load(folder)
    HEADS[attack](folder)
    with pytest.raises(ModelError, match=str(folder)):
        weights.load(folder)


def test_a_damaged_head_never_becomes_another_error(tmp_path: Path, head: Path, trials: Trials) -> None:
    """Refused, or (a weight that is another finite number) read."""
    folder = Path(shutil.copytree(head, tmp_path / "head"))
    for seed in trials("damage to a head", 200):
        chance = random.Random(seed)
        name = chance.choice(["model.safetensors", "config.json"])
        (folder / name).write_bytes(damage((head / name).read_bytes(), chance))
        with contextlib.suppress(ModelError):
            assert all(torch.isfinite(t).all() for t in weights.load(folder).state_dict().values())
        shutil.copy(head / name, folder / name)


@pytest.mark.process
def test_a_damaged_recogniser_is_refused_and_does_not_bring_the_process_down(tmp_path: Path, trials: Trials) -> None:
    """CTranslate2 reads sizes from the file: in a process of its own, with so much memory and no more."""
    source = models.locate("whisper-base").path
    folder = Path(shutil.copytree(source, tmp_path / "model"))
    (tmp_path / "a.wav").write_bytes(b"")
    content = (source / "model.bin").read_bytes()
    for seed in trials("damage to a recogniser", 2):
        chance = random.Random(seed)
        torn = content[: chance.randrange(len(content))] if seed % 2 else damage(content[:200], chance) + content[200:]
        (folder / "model.bin").write_bytes(torn)
        code = ("from msfser_cli.backends.registry import loaded\n"
                "from msfser_cli.settings import build; from pathlib import Path\n"
                f"try: loaded('transcribers', 'faster-whisper', Path({str(folder)!r}), None, build('transcribe', {{}}))\n"
                "except Exception as error: raise SystemExit(getattr(error, 'exit_code', 1))")  # fmt: skip
        assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) in (0, 5)


# What is registered


def test_a_cache_that_was_altered_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = models.locate("minilm-l6").path
    monkeypatch.setenv("MSFSER_CACHE", str(tmp_path))
    models.locate.cache_clear()
    folder = tmp_path / "models" / source.name
    for name in registry()["minilm-l6"].files:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        models.locate("minilm-l6")
        models.locate.cache_clear()
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        with pytest.raises(ModelError, match=f"{name}: not the published"):
            models.locate("minilm-l6")
    shutil.copytree(source, folder, dirs_exist_ok=True)
    for name in ("adapter_config.json", "added_tokens.json", "evil.py"):
        (folder / name).write_text("{}")
        with pytest.raises(ModelError, match=f"{name}: not part of"):
            models.locate("minilm-l6")
        (folder / name).unlink()
    assert models.locate("minilm-l6").path == folder


# Pickles that are fetched


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes, str], Path]:
    """Puts a pickle into a hub's cache, registered as `evil` with this hash; where it would be converted to."""
    import huggingface_hub.constants

    monkeypatch.setenv("MSFSER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    revision = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "hub" / "models--some--evil" / "snapshots" / revision

    def offer(content: bytes, digest: str) -> Path:
        snapshot.mkdir(parents=True, exist_ok=True)
        (snapshot / PICKLE).write_bytes(content)
        (snapshot / "config.json").write_text("{}")
        model = RegisteredModel("evil", "some/evil", revision, "", {PICKLE: digest, "config.json": ""})
        monkeypatch.setitem(registry(), "evil", model)
        return models.target_folder("evil", revision)

    return offer


@pytest.mark.parametrize("guise", ["plain", "torch", "numpy", "zip"])
def test_a_pickle_with_another_hash_than_the_registered_is_not_opened(
    offered: Callable[[bytes, str], Path], canary: Path, guise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("opened"))
    target = offered(pickles(canary)[guise], "0" * 64)
    with pytest.raises(UsageError, match="not on this machine"):  # it is removed, and would be fetched
        fetch("evil", trust_pickle=True)
    assert not target.exists()
    with pytest.raises(ModelError, match="msfser models fetch evil"):
        models.locate("evil")


def _tensor_pickle(content: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


def _rezipped(change: Callable[[zipfile.ZipFile, zipfile.ZipInfo, bytes], object]) -> bytes:
    """A pickle of weights whose archive was written again."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_tensor_pickle({"a": torch.zeros(100_000)}))) as old, zipfile.ZipFile(made, "w") as new:
        for entry in old.infolist():
            change(new, entry, old.read(entry))
    return made.getvalue()


def _twice(new: zipfile.ZipFile, entry: zipfile.ZipInfo, content: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        new.writestr(entry.filename, content)
        new.writestr(entry.filename, content)


WEIGHTS: dict[str, Callable[[], bytes]] = {
    "compressed": lambda: _rezipped(lambda new, e, c: new.writestr(e.filename, c, zipfile.ZIP_DEFLATED)),
    "a name twice": lambda: _rezipped(_twice),
    "cut": lambda: _tensor_pickle({"a": torch.zeros(100_000)})[:-1000], "empty": lambda: b"", "a number": lambda: pickle.dumps(3),
    "no mapping": lambda: _tensor_pickle([torch.zeros(3)]), "nested": lambda: _tensor_pickle({"model": {"a": torch.zeros(3)}}),
    "a tensor from nothing": lambda: _tensor_pickle({"a": torch.zeros(1).expand(1 << 40)}),
    "a thousand of one": lambda: _tensor_pickle(dict.fromkeys(map(str, range(1000)), torch.zeros(100_000))),
    "sparse": lambda: _tensor_pickle({"a": torch.eye(3).to_sparse()}),
    "a number's name": lambda: _tensor_pickle({1: torch.ones(3)}),
}  # fmt: skip


@pytest.mark.parametrize("attack", ["plain", "torch", "numpy", "zip", *WEIGHTS])
def test_a_pickle_that_is_trusted_is_read_as_weights_and_nothing_else(
    offered: Callable[[bytes, str], Path], canary: Path, attack: str
) -> None:
    """Whether its hash is registered or the user has said so: trust in who published it is not trust in what it would run."""
    content = WEIGHTS[attack]() if attack in WEIGHTS else pickles(canary)[attack]
    for digest in (hashlib.sha256(content).hexdigest(), ""):
        target = offered(content, digest)
        with pytest.raises(ModelError, match="refused"):
            fetch("evil", trust_pickle=not digest)
        assert not (target / "model.safetensors").exists()
        with pytest.raises(ModelError, match="on this machine as a pickle, which can run code"):
            models.locate("evil")
    good = _tensor_pickle({"a": torch.zeros(3)})
    offered(good, hashlib.sha256(good).hexdigest())
    fetch("evil")
    assert models.locate("evil").path == target


# By the command line


DOORS = ["--model", "--aligner", "--diarize", "--acoustic-model", "--text-model", "--head", "--backbone"]


@pytest.mark.process
@pytest.mark.parametrize("door", DOORS)
def test_every_option_that_names_a_model_refuses_a_pickle(msfser: Program, tmp_path: Path, canary: Path, door: str) -> None:
    evil = tmp_path / "evil"
    evil.mkdir()
    (evil / "config.json").write_text('{"model_type": "wavlm"}')
    (evil / "pytorch_model.bin").write_bytes(pickle.dumps(Canary(canary)))
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    if door == "--backbone":
        write_stage(tmp_path / "x.parquet", "embed", [f"{i}.wav" for i in range(9)])
        (tmp_path / "l.csv").write_text("file,valence,speaker\n" + "".join(f"{i}.wav,{i / 9},s{i % 3}\n" for i in range(9)))
        arguments = ["train", "--quiet", "x.parquet", "--gold", "l.csv", "--out", "h", "--finetune"]
    else:
        whisperx = ["--transcriber", "whisperx"] if door == "--aligner" else []
        arguments = ["predict", "a.wav", "--out", "y.parquet", *whisperx]
    before = {p.name for p in tmp_path.iterdir()}
    done = msfser(tmp_path, *arguments, door, "evil")
    assert done.returncode == 5, done.stderr
    assert sum(not line.startswith("warning") for line in done.stderr.splitlines()) == 1
    assert "can run code" in done.stderr
    assert {p.name for p in tmp_path.iterdir()} == before


def test_a_training_that_goes_on_from_something_else_is_refused(tmp_path: Path, canary: Path, trials: Trials) -> None:
    """The state of a training: damaged, or a pickle, is refused; the real one goes on."""
    from msfser_cli.settings import TrainSettings
    from msfser_cli.training import train
    from msfser_cli.training.training_set import read

    recordings = [f"{i:02d}.wav" for i in range(30)]
    table = write_stage(tmp_path / "x.parquet", "embed", recordings)
    gold = tmp_path / "l.csv"
    gold.write_text("file,valence,speaker\n" + "".join(f"{r},{i / 30},s{i % 5}\n" for i, r in enumerate(recordings)))
    settings = TrainSettings(epochs=3, experts=2, hidden_dim=4)
    examples = read(table, gold, settings, None)

    def stop(epoch: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.train(examples, settings, tmp_path / "begun", stop)
    state = (tmp_path / "begun" / train.STATE).read_bytes()
    for seed in trials("damage to a training", 20):
        folder = Path(shutil.copytree(tmp_path / "begun", tmp_path / f"{seed}"))
        evil = seed < len(guises := list(pickles(canary).values()))
        chance = random.Random(seed)
        size = 8 + int.from_bytes(state[:8], "little")
        torn = guises[seed] if evil else damage(state[:size], chance) + state[size:]
        (folder / train.STATE).write_bytes(torn)
        with contextlib.suppress(UsageError, ModelError):
            train.train(examples, settings, folder, lambda epoch: None)
            assert not evil
            weights.load(folder)
        shutil.rmtree(folder)
    for name in ("whole", "begun"):
        train.train(examples, settings, tmp_path / name, lambda epoch: None)
    assert (tmp_path / "begun" / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def test_a_type_in_a_table_is_no_pickle(tmp_path: Path, canary: Path) -> None:
    """Arrow once wrote types as pickles, and loaded them."""
    about = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(Canary(canary))}
    field = pa.field("path", pa.string(), metadata=about)
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"path": ["a.wav"]}, schema=pa.schema([field])), path)
    assert len(find([str(path)]).recordings) == 1
    assert not tables.is_ours(path)
    with pytest.raises(TableError):
        tables.read(path, [])
