"""References in training: whose utterances they are made of, and that a head learns from them what only they tell."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.msf_ser import MsfSer
from msfser_cli.training import references as training_references
from msfser_cli.training.references import MOST, References

SPEAKERS = [f"s{i % 4}" for i in range(100)]


def _references(present: np.ndarray | None = None) -> tuple[np.ndarray, References]:
    rng = np.random.default_rng(0)
    acoustic = rng.normal(size=(100, 12)).astype(np.float32)
    labels = rng.random((100, 3))
    return acoustic, References(acoustic, np.ones(100, bool) if present is None else present, labels, SPEAKERS, np.arange(60))


def test_a_reference_is_of_the_same_speaker_and_has_the_utterance_itself() -> None:
    present = np.ones(100, bool)
    present[8] = False
    _, references = _references(present)
    torch.manual_seed(0)
    chosen = torch.tensor([0, 5, 8, 90])
    sizes = set()
    for _ in range(50):
        drawn = references.drawn(chosen)
        for row, utterance in enumerate(chosen.tolist()):
            members = drawn.members[drawn.owners == drawn.of[row]].tolist()
            assert len(set(members)) == len(members) <= MOST
            assert {SPEAKERS[m] for m in members} <= {SPEAKERS[utterance]}
            assert (utterance in members) == (utterance != 8)
            assert 8 not in members
            sizes.add(len(members))
    assert {1, 2, 3} < sizes
    assert max(sizes) > 15


def test_some_references_are_of_one_mood(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a speaker who is angry all the time: the others are the sixth of the utterances whose labels are nearest."""
    monkeypatch.setattr(training_references, "ALIKE", 1.0)
    labels = np.tile(np.arange(100)[:, None] / 100, (1, 3))
    references = References(np.zeros((100, 4), np.float32), np.ones(100, bool), labels, ["one"] * 100, np.arange(60))
    torch.manual_seed(0)
    for _ in range(50):
        members = references.drawn(torch.tensor([50])).members.numpy()
        assert np.abs(members - 50).max() <= max(len(members), 100 // 6) / 2 + 1


def test_a_complete_reference_has_every_voice_of_the_speaker_and_shifts_nothing() -> None:
    present = np.ones(100, bool)
    present[4] = False
    _, references = _references(present)
    drawn = references.complete(torch.tensor([1, 0, 4, 9]))
    of_each = [sorted(drawn.members[drawn.owners == group].tolist()) for group in drawn.of]
    assert of_each[0] == of_each[3] == list(range(1, 100, 4))
    assert of_each[1] == of_each[2] == [i for i in range(0, 100, 4) if i != 4]
    assert not drawn.shift.any()


def test_a_speaker_with_two_voices_has_no_complete_reference() -> None:
    present = np.zeros(100, bool)
    present[[0, 4, 1, 5, 9]] = True
    _, references = _references(present)
    drawn = references.complete(torch.tensor([0, 1]))
    assert not (drawn.owners == drawn.of[0]).any()
    assert drawn.members[drawn.owners == drawn.of[1]].tolist() == [1, 5, 9]


def test_references_depend_on_torchs_seed_alone() -> None:
    _, references = _references()
    torch.manual_seed(7)
    first = references.drawn(torch.arange(20))
    second = references.drawn(torch.arange(20))
    torch.manual_seed(7)
    again = references.drawn(torch.arange(20))
    assert torch.equal(first.shift, again.shift)
    assert torch.equal(first.members, again.members)
    assert not torch.equal(first.shift, second.shift)


def test_the_scores_are_those_of_the_model_with_the_evidence_of_all_members(config: MsfSerConfig) -> None:
    acoustic, references = _references()
    head = MsfSer(dataclasses.replace(config, reference_dim=4)).eval()
    chosen = torch.tensor([3, 2, 7])
    voices, texts, present = torch.from_numpy(acoustic), torch.randn(100, 3, 7), torch.ones(100, 4, dtype=torch.bool)
    out = references.scored(head, voices[chosen], texts[chosen], present[chosen], references.complete(chosen))
    evidence = head.evidence(voices, present)
    summed = torch.stack([evidence[[i for i in range(100) if SPEAKERS[i] == SPEAKERS[c]]].sum(dim=0) for c in chosen])
    expected = head(voices[chosen], texts[chosen], present[chosen], summed)
    torch.testing.assert_close(out.scores, expected.scores)


@pytest.mark.parametrize("speakers", [SPEAKERS, ["one"] * 100])
def test_the_shift_is_a_difference_between_the_training_sets_speakers(speakers: list[str]) -> None:
    rng = np.random.default_rng(1)
    acoustic = rng.normal(size=(100, 12)).astype(np.float32) * 0.01
    acoustic[:, 0] += [int(s[1:]) if s != "one" else 0 for s in speakers]  # speakers differ in the first component alone
    references = References(acoustic, np.ones(100, bool), rng.random((100, 3)), speakers, np.arange(60))
    shift = references.drawn(torch.arange(100)).shift.abs().mean(dim=0)
    if speakers is SPEAKERS:
        assert shift[0] > 0.3
    assert shift[1:].max() < 0.05


def test_labels_that_are_missing_are_no_obstacle() -> None:
    labels = np.full((100, 3), np.nan)
    labels[:, 1] = np.linspace(0, 1, 100)
    references = References(np.zeros((100, 4), np.float32), np.ones(100, bool), labels, SPEAKERS, np.arange(60))
    assert len(references.drawn(torch.arange(100)).members) > 100


