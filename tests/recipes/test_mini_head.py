"""The parts of recipes/mini_head that do not need its corpora."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from kit.small_model import config
from msfser_cli.model import weights
from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.msf_ser import MsfSer
from msfser_cli.statistics.metrics import ccc

__all__ = ["config"]

pytestmark = pytest.mark.model

RECIPE = Path(__file__).parents[2] / "recipes" / "mini_head"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The recipe's train module; its siblings are imported as they are when it is run."""
    monkeypatch.syspath_prepend(str(RECIPE))
    import train

    yield train
    for name in ("train", "augment", "card", "chain", "corpora", "features", "fit", "measure", "pairing", "picture", "voices"):
        sys.modules.pop(name, None)


def test_the_card_of_the_checkpoint_says_what_the_recipe_writes(recipe: ModuleType) -> None:
    """Some of it was changed by hand since the head was trained."""
    from card import _TEXT, LOOKS

    card = (Path(weights.__file__).parent / "checkpoints" / "mini" / "MODEL_CARD.md").read_text("utf-8").splitlines()
    written = _TEXT.replace("{looks}", LOOKS).splitlines()
    assert [line for line in written if "{" not in line and line not in card] == []
    assert len([line for line in written if "{" not in line]) > 60


def _row() -> dict[str, object]:
    words = [("so", 0.5, 0.7), ("it", 0.7, 0.9), ("is", 0.9, 1.2)]
    timed = [{"word": word, "start": start, "end": end} for word, start, end in words]
    return {"start": 0.0, "end": 2.0, "text": "so it is", "words": timed}


def _tone(hz: float = 220.0) -> np.ndarray:
    """A tone from .5 to 1.2 s, where the words of `_row` are."""
    samples = np.zeros(32000, np.float32)
    samples[8000:19200] = 0.3 * np.sin(2 * np.pi * hz * np.arange(11200) / 16000)
    return samples


def test_words_stay_on_their_sound_in_a_session(recipe: ModuleType) -> None:
    """Clips that are silent but for their words: in the recording, nearly all of the energy is where the words are."""
    augment = recipe.features.augment
    rng = np.random.default_rng(0)
    for i in range(30):
        session = augment.Session.draw(rng, revoiced=i % 5 == 0)
        samples, rows = augment.one_after_another([session.voiced(_tone(), _row()) for _ in range(3)], rng)
        audio = session.recorded(samples, rng)
        assert audio.dtype == np.float32
        assert audio.shape == samples.shape
        assert np.abs(audio).max() <= 1.05  # a codec may go beyond the peak
        assert rows[0]["start"] >= 0.3
        assert rows[0]["end"] <= rows[1]["start"] - 0.299
        assert rows[-1]["end"] <= len(audio) / 16000
        inside = 0.0
        for row in rows:
            first, last = (round(16000 * t) for t in (row["words"][0]["start"] - 0.05, row["words"][-1]["end"] + 0.4))
            inside += np.square(audio[first:last]).sum()
        assert inside > 0.7 * np.square(audio).sum()


def test_a_codec_keeps_the_sound_in_its_place(recipe: ModuleType) -> None:
    """Every codec gives back as many samples, the tone where it was (to a codec's delay) and silence elsewhere."""
    augment = recipe.features.augment
    samples = _tone(440)
    for codec in (*augment.CODECS, *augment.TELEPHONES):
        coded = augment.through_codec(samples, codec)
        assert coded.shape == samples.shape
        assert coded.dtype == np.float32
        assert np.square(coded[7000:21000]).sum() > 0.95 * np.square(coded).sum()
        assert 0.5 < np.square(coded).sum() / np.square(samples).sum() < 1.2


@pytest.mark.parametrize(("pitch", "size"), [(2**0.5, 1.0), (2**-0.5, 1.0), (1.0, 1.16), (1.2, 0.86)])
def test_another_speaker_is_higher_or_lower_and_says_it_at_the_same_time(recipe: ModuleType, pitch: float, size: float) -> None:
    """A buzz of 150 Hz between two silences gets the pitch that was asked for, and its place stays."""
    augment = recipe.features.augment
    buzz = np.zeros(32000, np.float32)
    buzz[8000:24000] = 0.1 * sum(np.sin(2 * np.pi * 150 * k * np.arange(16000) / 16000) / k for k in range(1, 30))
    other = augment.as_another_speaker(buzz, pitch, size)
    assert (other.shape, other.dtype) == (buzz.shape, np.float32)
    assert np.square(other[7500:24500]).sum() > 0.98 * np.square(other).sum() > 0.3 * np.square(buzz).sum()
    inside = other[10000:22000].astype(float)
    repeats = np.correlate(inside, inside, "full")[len(inside) - 1 :]
    assert 16000 / (50 + repeats[50:180].argmax()) == pytest.approx(150 * pitch, rel=0.03)


def test_another_speaker_has_another_pitch_within_six_semitones(recipe: ModuleType) -> None:
    rng = np.random.default_rng(0)
    drawn = [recipe.features.augment.Session.draw(rng, revoiced=True) for _ in range(200)]
    semitones = 12 * np.log2([session.pitch for session in drawn])
    assert -6.01 < semitones.min() < -4
    assert 4 < semitones.max() < 6.01
    assert not any(recipe.features.augment.Session.draw(rng, revoiced=False).pitch != 1 for _ in range(20))


def test_speech_only_keeps_every_word(recipe: ModuleType) -> None:
    row = recipe.features.augment.speech_only(_row())
    assert (row["start"], row["end"]) == (pytest.approx(0.4), pytest.approx(1.3))


def test_labels_of_crema_d_are_what_listeners_heard(recipe: ModuleType, tmp_path: Path) -> None:
    """Labels to test against are the mean of the voice's votes. Those to learn from follow all votes, with that spread."""
    from corpora import crema_d, is_held_out

    (tmp_path / "crema_d").mkdir()
    kinds = [f"{kind}_{vote}" for kind in ("voice", "both") for vote in "ADFHNS"]
    votes = {"1005": "300100000004", "1006": "300100000004", "1007": "000040300100", "1008": "001111000222"}
    votes["1009"] = "000000100000"
    lines = [f"audio/{speaker}.opus,{speaker},," + ",".join(of) for speaker, of in votes.items()]
    silent = "audio/silent.opus,1011,silent," + ",".join("1" * 12)
    (tmp_path / "crema_d" / "manifest.csv").write_text("\n".join(["file,speaker,note," + ",".join(kinds), *lines, silent]) + "\n")
    clips = crema_d(tmp_path)
    assert [clip.speaker for clip in clips] == list(votes)
    assert [is_held_out(clip.speaker) for clip in clips] == [True, False, False, False, False]
    angry, happy = np.array([-0.51, 0.59, 0.25]), np.array([0.81, 0.51, 0.46])
    assert clips[0].rated == pytest.approx((1 + (3 * angry + happy) / 4) / 2, abs=1e-4)
    assert clips[0].labels == clips[1].labels
    assert np.isnan(clips[-1].rated).all()
    labels, rated = (np.array([getattr(clip, name) for clip in clips[1:-1]]) for name in ("labels", "rated"))
    np.testing.assert_allclose(labels.mean(axis=0), rated.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(labels.std(axis=0), rated.std(axis=0), atol=1e-3)


@pytest.mark.slow
def test_a_head_learns_voice_and_text_that_it_never_heard_together(recipe: ModuleType) -> None:
    """Voices whose first component is arousal, texts whose first is valence, and never both: held-out pairs need both."""
    rng = np.random.default_rng(0)

    def examples(count: int, voice: bool, text: bool, offset: float) -> object:
        acoustic, texts = rng.normal(size=(count, 8)).astype(np.float32), rng.normal(size=(count, 3, 6)).astype(np.float32)
        acoustic[:, 1] += offset
        labels = np.full((count, 3), 0.5, np.float32)
        if voice:
            labels[:, 1] += 0.2 * np.tanh(acoustic[:, 0])
        if text:
            labels[:, 0] += 0.1 * np.tanh(texts[:, 1, 0])
        labels[: count // 8] = 0.5
        acoustic[: count // 8, 0] = texts[: count // 8, 1, 0] = 0
        present = np.ones((count, 4), bool)
        names = np.array([str(i % 4) for i in range(count)])
        return recipe.Examples(acoustic, texts, present, labels, labels, names, names, np.arange(count), names)

    acted, spoken, written = examples(300, True, False, 0.0), examples(300, False, True, 5.0), examples(300, False, True, 0.0)
    head = recipe.fit([(acted, recipe.Share(64, 64, 1.0))], spoken, written, steps=300)
    both = examples(200, True, True, 5.0)  # acted voices where training had only calm ones
    scores, _ = recipe.outputs(head, both)
    assert ccc(both.labels[:, 0], scores[:, 0]) > 0.5
    assert ccc(both.labels[:, 1], scores[:, 1]) > 0.5


def _examples(recipe: ModuleType, count: int) -> object:
    """Utterances of two speakers in turn, whose labels repeat after four."""
    rng = np.random.default_rng(0)
    acoustic, texts = rng.normal(size=(count, 12)).astype(np.float32), rng.normal(size=(count, 3, 7)).astype(np.float32)
    labels = (np.arange(count * 3).reshape(count, 3) % 4 / 4).astype(np.float32)
    names = np.array([f"speaker {i % 2}" for i in range(count)])
    forms = np.array(["speech"] * count)
    return recipe.Examples(acoustic, texts, np.ones((count, 4), bool), labels, labels, names, names, np.arange(count), forms)


def test_a_clips_score_is_the_mean_of_its_utterances_by_their_length(recipe: ModuleType) -> None:
    examples = _examples(recipe, 4)
    heard = recipe.Heard(dataclasses.replace(examples, item=np.array([5, 2, 2, 9])), np.array([1.0, 1.0, 3.0, 2.0]))
    labels, means, speakers = heard.by_clip(np.array([[0.0] * 3, [0.2] * 3, [0.6] * 3, [1.0] * 3]))
    np.testing.assert_allclose(means[:, 0], [0.5, 0.0, 1.0])
    np.testing.assert_array_equal(labels, examples.labels[[1, 0, 3]])
    assert speakers.tolist() == ["speaker 1", "speaker 0", "speaker 1"]


def test_references_are_of_the_session_and_of_the_size_that_was_asked_for(recipe: ModuleType) -> None:
    examples = _examples(recipe, 40)
    for i, members in enumerate(recipe.of_size(examples, 5)):
        assert len(set(members.tolist())) == 5
        assert i in members
        assert {m % 2 for m in members} == {i % 2}
    assert all(len(members) == 20 for members in recipe.of_size(examples, 50))
    for i, members in enumerate(recipe.of_one_mood(examples)):
        assert members.tolist() == list(range(i % 4, 40, 4))


def test_a_stream_that_is_left_out_is_absent(recipe: ModuleType, config: MsfSerConfig) -> None:
    from measure import without

    examples, head = _examples(recipe, 6), MsfSer(dataclasses.replace(config, reference_dim=4)).eval()
    gates = recipe.outputs(head, without(examples, "es"))[1]
    assert (gates[:, 2] == 0).all()
    assert (gates[:, :2] > 0).all()
    alone = recipe.outputs(head, examples)[0]
    assert np.abs(recipe.outputs(head, examples, recipe.ALL)[0] - alone).max() > 1e-3
    nobody = [np.array([], int)] * 6
    np.testing.assert_allclose(recipe.outputs(head, examples, nobody)[0], alone, atol=0.05)


def test_each_corpus_counts_the_same_for_the_intervals(recipe: ModuleType, config: MsfSerConfig) -> None:
    """Two speakers whose labels are .3 above the scores, and ten times as many whose labels are right."""
    head = MsfSer(dataclasses.replace(config, reference_dim=4)).eval()
    few, many = _examples(recipe, 60), _examples(recipe, 600)
    many = dataclasses.replace(many, speaker=np.array([f"s{i % 20}" for i in range(600)]))
    few = dataclasses.replace(few, rated=recipe.outputs(head, few)[0] + np.float32(0.3))
    many = dataclasses.replace(many, rated=recipe.outputs(head, many)[0])
    intervals = recipe.across_corpora({"a": head, "b": head}, {"a": few, "b": many})
    assert min(intervals.above) > 0.25  # by speakers, one in eleven would be outside the interval of 90 %
    assert (intervals.utterances, intervals.speakers) == (660, 22)
