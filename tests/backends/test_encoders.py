"""One contract for every encoder: real weights where they come with the installation, small ones of the same class elsewhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.speech_models import KINDS, RATE, WHISPER_SECONDS, save_roberta, save_speech_model, voice
from msfser_cli.backends import bert
from msfser_cli.backends.encoders import transformers_speech, transformers_text, whisper
from msfser_cli.backends.registry import loaded
from msfser_cli.errors import ModelError
from msfser_cli.model import pooling
from msfser_cli.model_store.models import locate

pytestmark = pytest.mark.model


def save_pooled_model(folder: Path, kind: str, **changes: Any) -> Path:
    """A speech model with a pooling that has learned something."""
    import torch

    save_speech_model(folder, kind)
    values = {"hidden_dim": 32, "states": 3, "layers": "all", "pooling": "attentive", **changes}
    made = pooling.Pooling(pooling.PoolingConfig(**values))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    pooling.save(folder, made)
    return folder


def test_code_that_comes_with_a_model_is_refused_without_a_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    folder = Path(shutil.copytree(locate("minilm-l6").path, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    for load in (transformers_text.load, transformers_speech.load):
        with pytest.raises(ModelError, match=str(folder)):
            load(folder)
    assert not (tmp_path / "ran").exists()


SPEECH: dict[str, Callable[[Path], Any]] = {
    "whisper-base": lambda folder: whisper.load(locate("whisper-base").path),
    **{
        kind: lambda folder, kind=kind: transformers_speech.load(save_speech_model(folder, kind))  # type: ignore[misc]
        for kind in KINDS
    },
    **{
        f"{kind}, pooled": lambda folder, kind=kind: transformers_speech.load(save_pooled_model(folder, kind))  # type: ignore[misc]
        for kind in ("wavlm", "wav2vec2-group-norm", "whisper")
    },
}
TEXT: dict[str, Callable[[Path], Any]] = {
    "minilm-l6": lambda folder: transformers_text.load(locate("minilm-l6").path),
    "roberta": lambda folder: transformers_text.load(save_roberta(folder)),
}


@pytest.fixture(scope="module", params=SPEECH)
def speech_encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return SPEECH[request.param](tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", params=TEXT)
def text_encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return TEXT[request.param](tmp_path_factory.mktemp("model"))


def test_a_batch_of_clips_gives_what_single_clips_give(speech_encoder: Any) -> None:
    clips = [voice(seconds, seed) for seed, seconds in enumerate((2.0, 0.3, 1.1, 4.0, 0.3))]
    together = speech_encoder.encode(clips)
    alone = np.concatenate([speech_encoder.encode([clip]) for clip in clips])
    assert together.shape == (5, speech_encoder.dimension)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_different_clips_have_different_vectors(speech_encoder: Any) -> None:
    one, other = speech_encoder.encode([voice(1.0, 1), np.random.default_rng(1).standard_normal(RATE).astype(np.float32)])
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("samples", [1, 160, 399, 400, 1000])
def test_very_short_and_silent_clips_have_finite_vectors(speech_encoder: Any, samples: int) -> None:
    assert np.isfinite(speech_encoder.encode([voice(1.0)[:samples], np.zeros(samples, np.float32)])).all()


def test_no_clips_give_no_vectors(speech_encoder: Any) -> None:
    assert speech_encoder.encode([]).shape == (0, speech_encoder.dimension)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPEECH)
def test_clips_that_are_not_in_memory_are_read_as_they_are_encoded(kind: str, sparing: type, tmp_path: Path) -> None:
    encoder = SPEECH[kind](tmp_path)
    clips = [voice(70.0), voice(3.0), voice(0.2)]
    vectors = encoder.encode([sparing(clip) for clip in clips])
    np.testing.assert_array_equal(vectors, encoder.encode(clips))


def test_a_clip_of_several_windows_has_the_average_of_all_its_states() -> None:
    encoder = whisper.load(locate("whisper-base").path)
    clip = voice(70.0)
    states = np.concatenate([encoder._states(part) for part in np.array_split(clip, 3)])
    np.testing.assert_array_equal(encoder.encode([clip])[0], states.mean(axis=0, dtype=np.float64).astype(np.float32))


MANY_LENGTHS = """
import sys
from pathlib import Path
import numpy as np
from msfser_cli.backends.encoders import whisper

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

encoder = whisper.load(Path(sys.argv[1]))
clips = [np.zeros(32_000 + 160 * i, np.float32) for i in range(140)]
encoder.encode(clips[-1:] + clips[:40])
before = resident()
encoder.encode(clips[40:])
print(resident() - before)
"""


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_lengths_that_clips_have() -> None:
    command = [sys.executable, "-c", MANY_LENGTHS, str(locate("whisper-base").path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 40 << 20


def test_without_a_pooling_the_vector_is_the_mean_and_deviation_of_the_last_states(tmp_path: Path) -> None:
    import torch

    encoder = transformers_speech.load(save_speech_model(tmp_path, "wavlm"))
    inputs = encoder.extractor(voice(1.0), sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        states = encoder.model(**inputs).last_hidden_state[0].numpy()
    expected = np.concatenate([states.mean(axis=0), states.std(axis=0)])
    np.testing.assert_allclose(encoder.encode([voice(1.0)])[0], expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["wavlm", "data2vec", "whisper"])
def test_a_clip_of_several_parts_is_pooled_over_the_states_of_all_of_them(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the model itself, part by part, and the pooling of what it says."""
    import torch

    monkeypatch.setattr(transformers_speech, "WINDOW", WHISPER_SECONDS * RATE)
    encoder = transformers_speech.load(save_pooled_model(tmp_path, kind))
    clip = np.concatenate([voice(6.0, 1), 3 * voice(5.5, 2)])
    states = []
    for part in np.array_split(clip, 3):
        inputs = encoder.extractor(part, sampling_rate=RATE, return_tensors="pt")
        model = encoder.model.encoder if kind == "whisper" else encoder.model
        with torch.inference_mode():
            of_part = model(**inputs, output_hidden_states=True).hidden_states
        real = -(-len(part) // 320) if kind == "whisper" else None  # a state is 20 ms
        states.append([layer[:, :real] for layer in of_part])
    whole = [torch.cat(layer, dim=1) for layer in zip(*states, strict=True)]
    with torch.inference_mode():
        expected = encoder.pooling(whole, torch.ones(whole[0].shape[:2], dtype=torch.bool))[0].numpy()
    np.testing.assert_allclose(encoder.encode([clip])[0], expected, atol=1e-5)


def test_whispers_decoder_is_not_kept(tmp_path: Path) -> None:
    encoder = transformers_speech.load(save_speech_model(tmp_path, "whisper"))
    assert {name.partition(".")[0] for name, _ in encoder.model.named_parameters()} == {"encoder"}


def test_a_model_that_is_no_encoder_of_speech_is_named(tmp_path: Path) -> None:
    from transformers import Speech2TextConfig, Speech2TextModel, Wav2Vec2FeatureExtractor

    size = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    Speech2TextModel(Speech2TextConfig(**size)).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="Speech2TextModel is not a speech encoder such as WavLM, HuBERT or Whisper"):
        transformers_speech.load(tmp_path)


HALF: dict[str, tuple[Callable[..., Any], Callable[[Path, str], Path]]] = {
    **dict.fromkeys(KINDS, (transformers_speech.load, save_speech_model)),
    "roberta": (transformers_text.load, lambda folder, kind: save_roberta(folder)),
}


def items(kind: str) -> list[Any]:
    """Clips or texts that make several batches."""
    if kind == "roberta":
        return ["how are you today", "my friend", "how are you my friend " * 3]
    return [voice(seconds, seed) for seed, seconds in enumerate((2.0, 0.3, 1.1, 7.0, 0.3))]


@pytest.mark.parametrize("kind", HALF)
def test_half_precision_is_close(kind: str, tmp_path: Path) -> None:
    import torch

    load, save = HALF[kind]
    single = load(save(tmp_path, kind)).encode(items(kind))
    encoder = load(tmp_path, torch.float16)
    assert {w.dtype for w in encoder._inference.model.parameters()} == {torch.float16}
    half = encoder.encode(items(kind))
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, single, atol=0.02)
    assert np.abs(half - single).max() > 0
    assert {w.dtype for w in encoder._inference.model.parameters()} == {torch.float16}  # nothing had to be done again


@pytest.mark.parametrize("kind", ["wavlm", "roberta"])
@pytest.mark.parametrize(("weight", "computed_in"), [(3e4, ["float16", "float32"]), (1e5, ["float32"])])
def test_what_overflows_in_half_precision_is_computed_in_single(
    kind: str, weight: float, computed_in: list[str], tmp_path: Path
) -> None:
    """That batch where the states do; everything where the weights do."""
    import torch

    load, save = HALF[kind]
    enlarge(save(tmp_path, kind), weight)
    single, encoder = load(tmp_path).encode(items(kind)), load(tmp_path, torch.float16)
    types: list[str] = []
    encoder._inference.model.register_forward_pre_hook(lambda model, _: types.append(str(model.dtype).removeprefix("torch.")))
    np.testing.assert_allclose(encoder.encode(items(kind)), single, atol=0.02)
    assert types == computed_in * (len(types) // len(computed_in))
    assert types


@pytest.mark.parametrize("kind", ["wavlm", "roberta"])
def test_vectors_that_are_not_finite_are_an_error(kind: str, tmp_path: Path) -> None:
    load, save = HALF[kind]
    enlarge(save(tmp_path, kind), 3e38)
    with pytest.raises(ArithmeticError, match="not finite"):
        load(tmp_path).encode(items(kind))


def enlarge(folder: Path, weight: float) -> None:
    """Give the last hidden layer weights of this size, beyond what the model's arithmetic expects."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    [name] = [n for n in tensors if n.endswith(("1.feed_forward.intermediate_dense.weight", "1.intermediate.dense.weight"))]
    tensors[name] = tensors[name].sign() * weight
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


ALONE = ("wav2vec2-group-norm", "data2vec")
"""Kinds that are given one clip at a time."""


def short_of_memory(encoder: Any, most: int, real: bool = False) -> list[int]:
    """From now on there is no memory for more than `most` samples or tokens. Returns the sizes that are tried, as they are."""
    import torch

    sizes: list[int] = []
    model = encoder._inference.model
    is_whisper = model.config.model_type == "whisper"

    def refuse(_: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        tensor = given[0] if given else named["input_ids"]
        sizes.append(len(tensor) * (WHISPER_SECONDS * RATE if is_whisper else tensor.shape[1]))
        if sizes[-1] > most:
            if real:
                torch.empty(1 << 50)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    (model.encoder if is_whisper else model).register_forward_pre_hook(refuse, with_kwargs=True)
    return sizes


def longest(kind: str) -> int:
    return {"roberta": 20, "whisper": WHISPER_SECONDS * RATE}.get(kind, 7 * RATE)


@pytest.mark.parametrize(("kind", "real"), [*((kind, False) for kind in HALF), ("wavlm", True)])
def test_where_memory_runs_out_batches_are_smaller_from_then_on(kind: str, real: bool, tmp_path: Path) -> None:
    load, save = HALF[kind]
    encoder = load(save(tmp_path, kind))
    expected = encoder.encode(items(kind) * 3)
    encoder._inference.batches.most = 0 if kind in ALONE else 60 * RATE  # as on a GPU
    most = 2 * longest(kind)
    sizes = short_of_memory(encoder, most, real)
    np.testing.assert_allclose(encoder.encode(items(kind) * 3), expected, atol=1e-4)
    assert any(size > most for size in sizes) == (kind not in ALONE)
    assert sum(size <= most for size in sizes) >= 2
    sizes.clear()
    np.testing.assert_allclose(encoder.encode(items(kind) * 3), expected, atol=1e-4)
    assert max(sizes) <= most


@pytest.mark.parametrize("kind", HALF)
def test_no_memory_for_a_single_item_is_said(kind: str, tmp_path: Path) -> None:
    load, save = HALF[kind]
    encoder = load(save(tmp_path, kind))
    short_of_memory(encoder, longest(kind) - 1)
    with pytest.raises(MemoryError, match=r"for a single item \(CUDA out of memory"):
        encoder.encode(items(kind))


def test_other_failures_of_a_model_are_no_lack_of_memory(tmp_path: Path) -> None:
    encoder = transformers_speech.load(save_speech_model(tmp_path, "wavlm"))

    def fail(*_: Any) -> None:
        raise RuntimeError("device-side assert triggered")

    encoder.model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="device-side assert"):
        encoder.encode(items("wavlm"))


def test_a_pooling_is_part_of_the_model_and_of_its_identity(tmp_path: Path) -> None:
    plain, pooled = save_speech_model(tmp_path / "plain", "wavlm"), save_pooled_model(tmp_path / "pooled", "wavlm")
    other = Path(shutil.copytree(pooled, tmp_path / "other"))
    made = pooling.load(other)
    assert made is not None
    made.layer_logits.data[0] += 1
    pooling.save(other, made)
    one, two, three = (transformers_speech.load(folder).encode([voice(1.0)]) for folder in (plain, pooled, other))
    assert np.abs(one - two).max() > 1e-3
    assert np.abs(two - three).max() > 1e-3
    assert len({locate(str(folder)).identity.partition(" ")[2] for folder in (plain, pooled, other)}) == 3


def test_the_waveform_is_normalised_as_the_pooling_says(tmp_path: Path) -> None:
    from transformers import Wav2Vec2FeatureExtractor

    raw = save_speech_model(tmp_path / "raw", "wavlm")
    normalised = save_pooled_model(tmp_path / "normalised", "wavlm", layers="last", pooling="mean-std",
                                   waveform_mean=0.02, waveform_std=0.1)
    for folder in (raw, normalised):
        Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True).save_pretrained(folder)
    clip = voice(1.0)
    expected = transformers_speech.load(raw).encode([(clip - 0.02) / 0.1])
    np.testing.assert_allclose(transformers_speech.load(normalised).encode([clip]), expected, atol=1e-5)


def test_a_pooling_for_another_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"pooling\.json: for 4 states of width 32, but the encoder has 3 of width 32"):
        transformers_speech.load(save_pooled_model(tmp_path, "wavlm", states=4))


def test_a_clip_beyond_whispers_window_is_pooled_over_all_of_it() -> None:
    encoder = SPEECH["whisper-base"](Path())
    calm, loud = voice(31.0, 1), np.concatenate([voice(31.0, 1)[: 20 * RATE], np.zeros(11 * RATE, np.float32)])
    assert np.abs(encoder.encode([calm]) - encoder.encode([loud])).max() > 1e-2


def test_a_batch_of_texts_gives_what_single_texts_give(text_encoder: Any) -> None:
    texts = ["how are you", "my", "how are you today my friend " * 8, "Grüße!", "today"]
    together = text_encoder.encode(texts)
    alone = np.concatenate([text_encoder.encode([text]) for text in texts])
    assert together.shape == (5, text_encoder.dimension)
    np.testing.assert_allclose(together, alone, atol=1e-4)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(min_size=1, max_size=400), max_size=5))
def test_any_text_has_a_finite_vector(text_encoder: Any, texts: list[str]) -> None:
    vectors = text_encoder.encode(texts)
    assert vectors.shape == (len(texts), text_encoder.dimension)
    assert np.isfinite(vectors).all()


def test_bert_in_plain_torch_gives_the_vectors_of_transformers(tmp_path: Path) -> None:
    folder = locate("minilm-l6").path
    plain, theirs = transformers_text.load(folder), transformers_text.TransformersText(folder)
    assert isinstance(plain, bert.Bert)
    texts = ["I asked for the green bottle.", "", "Grüße! 你好, 世界 🙂", "word " * 700, "a"]
    np.testing.assert_allclose(plain.encode(texts), theirs.encode(texts), atol=1e-5)
    spans = [[(2, 7)], [], [(0, 5)], [(3000, 3004)], [(0, 1)]]
    np.testing.assert_allclose(plain.encode(texts, spans), theirs.encode(texts, spans), atol=1e-5)
    spoiled: dict[str, Callable[[bytes], bytes]] = {
        "model.safetensors": lambda content: content[:1000], "tokenizer.json": lambda _: b"{}",
        "config.json": lambda content: content.replace(b'"num_hidden_layers": 6', b'"num_hidden_layers": 7'),
    }  # fmt: skip
    for name, spoil in spoiled.items():
        copy = Path(shutil.copytree(folder, tmp_path / name))
        (copy / name).write_bytes(spoil((copy / name).read_bytes()))
        with pytest.raises(ModelError, match=str(copy)):
            loaded("encoders", "transformers-text", copy)


CONTEXTS = ["how are you today my friend", "my friend", "how are you today my friend " * 8, "Grüße, you!", "today"]
SPANS = [[(4, 7), (18, 20)], [(0, 9)], [(28, 31)], [(0, 5)], [(0, 5)]]


def test_the_vector_of_spans_is_the_mean_of_what_their_tokens_are_in_the_whole_text(text_encoder: Any) -> None:
    """Against the model itself, one text at a time, its tokens taken apart by hand."""
    import torch

    together = text_encoder.encode(CONTEXTS, SPANS)
    is_plain = isinstance(text_encoder, bert.Bert)
    theirs = transformers_text.TransformersText(locate("minilm-l6").path) if is_plain else text_encoder
    for text, spans, vector in zip(CONTEXTS, SPANS, together, strict=True):
        tokens = theirs._tokenizer(
            text, return_offsets_mapping=True, return_tensors="pt", truncation=True, max_length=theirs._longest
        )
        offsets = tokens.pop("offset_mapping")[0].tolist()
        with torch.inference_mode():
            states = theirs._inference.model(**tokens).last_hidden_state[0].numpy()
        inside = [i for i, (a, b) in enumerate(offsets) if any(set(range(a, b)) & set(range(*span)) for span in spans)]
        assert 0 < len(inside) < len(offsets)
        np.testing.assert_allclose(vector, states[inside].mean(axis=0), atol=1e-4)


def test_spans_beyond_the_models_length_have_no_vector(text_encoder: Any) -> None:
    long = "how are you today my friend " * 100
    spans = [[(0, 3)], [(len(long) - 7, len(long) - 1)], [(0, 3), (len(long) - 7, len(long) - 1)], []]
    vectors = text_encoder.encode([long] * 4, spans)
    assert np.isnan(vectors).all(axis=1).tolist() == [False, True, False, True]
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-5)


def test_a_tokenizer_that_does_not_say_where_its_tokens_are_is_named(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel, BertTokenizer

    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nyou\n")
    BertTokenizer(tmp_path / "vocab.txt").save_pretrained(tmp_path)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 6}
    BertModel(BertConfig(**size), add_pooling_layer=False).save_pretrained(tmp_path)
    encoder = transformers_text.load(tmp_path)
    encoder._tokenizer = BertTokenizer.from_pretrained(tmp_path)
    assert np.isfinite(encoder.encode(["you"])).all()
    with pytest.raises(ModelError, match=rf"{tmp_path}: its tokenizer does not give .*--les words"):
        encoder.encode(["you"], [[(0, 3)]])


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_minilm_puts_like_meanings_together() -> None:
    happy, glad, tax = TEXT["minilm-l6"](Path()).encode(["I am so happy!", "I feel wonderful.", "The tax form is due in May."])
    assert cosine(happy, glad) > cosine(happy, tax) + 0.2


@pytest.mark.parametrize("load", [transformers_speech.load, transformers_text.load])
def test_a_folder_that_is_no_model_is_a_model_error(load: Callable[[Path], Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=str(tmp_path)):
        load(tmp_path)


def test_a_text_model_is_no_speech_encoder(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        transformers_speech.load(save_roberta(tmp_path / "roberta"))


def test_whispers_vector_is_that_of_two_halves_of_its_lower_layers() -> None:
    """Against CTranslate2 itself: all layers and the last norm of our arithmetic give its states."""
    import torch

    from msfser_cli.backends.whisper_ct2 import load_whisper

    folder = locate("whisper-base").path
    encoder, theirs = whisper.load(folder), load_whisper(folder, "float32")
    samples = voice(3.0)
    vector = encoder.encode([samples])[0]

    arrays = whisper._encoder_arrays(folder / "model.bin")
    encoder._keep(arrays, 6)
    with torch.inference_mode():
        layers = [states.numpy() for states in encoder._by_layer(samples)]
    lower, upper = np.mean(layers[:2], axis=(0, 1)), np.mean(layers[2:4], axis=(0, 1))
    np.testing.assert_allclose(vector, np.concatenate([lower, upper]), atol=1e-5)

    gamma, beta = (arrays[f"layer_norm/{name}"].astype(np.float32) for name in ("gamma", "beta"))
    last = layers[-1]
    normed = (last - last.mean(axis=1, keepdims=True)) / np.sqrt(last.var(axis=1, keepdims=True) + 1e-5) * gamma + beta
    states = np.asarray(theirs.model.encode(np.array(theirs.features([samples]))))
    np.testing.assert_allclose(normed, states[0], atol=2e-3)


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:1000], lambda b: b"", lambda b: b[:4] + b"\xff" * 40 + b[44:], lambda b: b[: len(b) // 20]]
)
def test_a_damaged_whisper_is_named(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    content = (locate("whisper-base").path / "model.bin").read_bytes()
    (tmp_path / "model.bin").write_bytes(spoil(content))
    with pytest.raises(ModelError, match=r"model\.bin: not a Whisper model"):
        whisper.load(tmp_path)
