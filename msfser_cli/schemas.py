"""Every table that msfser writes, column by column.

One row is one utterance. Its key is `recording_id` and `utterance_id`. Each stage adds its columns to the rows that it reads, so
a table has the columns of its own stage and of all stages before. The table of `predict` leaves out the vectors, unless
`--keep-vectors` is set.

Beside every table is a ledger (`RECORDINGS`). It has one row for each recording.

Column types are written as text, so this module needs only the standard library. `store.tables` turns them into Arrow types.
`vector` is a fixed-size list of float32; its length is the dimension of the encoder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SCHEMA_VERSION = 4
SAMPLE_RATE_HZ = 16_000

DIMENSIONS = ("valence", "arousal", "dominance")
"""The order of the scores in every array and table."""

SEMANTIC_STREAMS = ("les", "gs", "es")
"""The order of the gates: emphasised words, transcript, description."""

STREAMS = ("acoustic", *SEMANTIC_STREAMS)
"""The order of the presence mask."""


@dataclass(frozen=True)
class Column:
    """One column: its name, type, unit, range and meaning, and whether it may be null.

    since: the first schema version that has it. A column that may be null reads as null from an older table.
    """

    name: str
    type: str
    meaning: str
    unit: str = ""
    range: str = ""
    nullable: bool = False
    since: int = 1


WORDS = "list<struct<word: string, start: float64, end: float64, score: float64, aligned: bool>>"
CUES = "list<struct<pitch_z: float64, energy_z: float64, duration_z: float64>>"
SPANS = "list<struct<text: string, start: float64, end: float64, first_word: int64, last_word: int64, score: float64>>"

TRANSCRIBE = (
    Column("recording_id", "string", "path of the recording below the corpus root, with forward slashes"),
    Column("utterance_id", "string", "recording_id, '#', and the number of the utterance in the recording, from 0000"),
    Column("start", "float64", "start of the utterance in the recording", "s", ">= 0"),
    Column("end", "float64", "end of the utterance in the recording", "s", "> start"),
    Column("speaker", "string", "the speaker: from the manifest, or with --diarize SPEAKER_00 and so on, numbered within each "
           "recording, or with --channels split CHANNEL_0 and so on; null if unknown", nullable=True),
    Column("channel", "int64", "channel of the recording that was heard; null if the channels were mixed", "", ">= 0", True, 4),
    Column("language", "string", "ISO 639-1 code of the row's language, detected or given; of a row in two languages, which only "
           "a manifest's segment or --unit file can make, the one with more words"),
    Column("language_probability", "float64", "probability of the detected language; null if the language was given", "", "0..1",
           True),
    Column("text", "string", "the transcript, spelt and spaced as the recogniser or the manifest has it; empty if no word was "
           "recognised"),
    Column("words", WORDS, "the words with start and end in the recording (s); score: probability from the recogniser or the "
           "aligner, null for a word that was not aligned; aligned: false if the times are interpolated. The words and the "
           "blanks between them make up the text. A word is what stands between blanks, with its punctuation. What stands alone "
           "without a letter or a digit belongs to the word before it ('3,5 %'). Chinese, Thai, Lao, Burmese and Khmer have the "
           "words of ICU's dictionaries; in Japanese a word is a phrase (bunsetsu): a word with its particles and endings"),
)

EMPHASIZE = (
    Column("emphasis", "list<float64>", "prominence of each word, in the order of words; null if it cannot be measured",
           "weighted sum of z-scores within the utterance"),
    Column("emphasis_cues", CUES, "z-scores of log-F0, energy and phone duration of each word, in the order of words"),
    Column("emphasis_spans", SPANS, "runs of emphasised words: text as in the transcript, without the punctuation around it, "
           "start and end (s), first and last word (indices, inclusive), and the highest prominence (score)"),
    Column("emphasized_text", "string", "the texts of emphasis_spans in order, a blank between them; null if there are none",
           nullable=True),
)

DESCRIBE = (
    Column("pitch_median_hz", "float64", "median F0 of the voiced frames", "Hz", "65..600", True),
    Column("pitch_relative_st", "float64", "pitch_median_hz relative to the median over the speaker's utterances in the "
           "recording; null if there is only one utterance", "semitones", nullable=True),
    Column("pitch_range_st", "float64", "distance from the 5th to the 95th percentile of F0", "semitones", ">= 0", True),
    Column("pitch_movement_st_per_s", "float64", "median absolute speed of F0 from frame to frame", "semitones/s", ">= 0", True),
    Column("pitch_slope_st_per_s", "float64", "slope of a line fitted to F0 over the utterance", "semitones/s", nullable=True),
    Column("pitch_final_st", "float64", "change of F0 within the last half second of voicing", "semitones", nullable=True),
    Column("loudness_db", "float64", "mean level of the sounding frames; depends on the gain of the recording", "dBFS",
           nullable=True),
    Column("loudness_relative_db", "float64", "loudness_db relative to the median over the speaker's utterances in the "
           "recording; null if there is only one utterance", "dB", nullable=True),
    Column("loudness_range_db", "float64", "distance from the 10th to the 95th percentile of the level of the sounding frames",
           "dB", ">= 0", True),
    Column("alpha_ratio_db", "float64", "level at 1-5 kHz minus level at 50-1000 Hz in the voiced frames: vocal effort, "
           "independent of gain", "dB", nullable=True),
    Column("hnr_db", "float64", "harmonics-to-noise ratio of the voiced frames", "dB", "-20..40", True),
    Column("articulation_rate_hz", "float64", "syllables per second of speech, pauses excluded; syllables are estimated from "
           "the spelling", "syllables/s", "> 0", True),
    Column("pause_share", "float64", "share of time in pauses of 0.25 s or more, between the first and the last sound", "",
           "0..1", True),
    Column("pause_longest", "float64", "the longest pause; 0 if there is no pause", "s", ">= 0", True),
    Column("description", "string", "one or two sentences about the delivery; null if it could not be measured", nullable=True),
    Column("description_fallback", "string", "why the description is made from measurements although a model was asked: one of "
           "FALLBACKS; null if the description is the describer's own", nullable=True),
)

FALLBACKS: dict[str, str] = {
    "refused": "the model says that it cannot or will not describe the utterance",
    "looped": "the answer repeats itself",
    "language": "the answer is not in English",
    "empty": "the answer is empty",
    "rejected": "the utterance is too long for the model, or the server does not accept it",
}
"""The values of `description_fallback`, with their meanings."""

EMBED = (
    Column("acoustic_vector", "vector", "the voice: states of the speech encoder, pooled over the frames", nullable=True),
    Column("les_vector", "vector", "Local Emphasized Semantics: the emphasised words, encoded as their own text (--les words) or "
           "as the mean of their tokens' states in the transcript (--les context); null if there are no emphasised words, all "
           "are beyond the encoder's maximum length, or the text encoder does not know their language", nullable=True),
    Column("gs_vector", "vector", "Global Semantics: the transcript; null if it is empty, or in a language that the text encoder "
           "does not know", nullable=True),
    Column("es_vector", "vector", "Extended Semantics: the description; null if there is no description", nullable=True),
)

PREDICT = (
    Column("valence", "float64", "from negative to positive; null if the checkpoint was not trained on valence",
           "the checkpoint's scale (in the file's metadata)", nullable=True),
    Column("arousal", "float64", "from calm to excited; null if the checkpoint was not trained on arousal",
           "the checkpoint's scale", nullable=True),
    Column("dominance", "float64", "from weak to strong; null if the checkpoint was not trained on dominance",
           "the checkpoint's scale", nullable=True),
    *(
        Column(f"{dimension}_{end}", "float64", f"{word} end of the prediction interval, whose level is in the metadata;"
               " null if the checkpoint is not calibrated", "the checkpoint's scale", nullable=True)
        for dimension in DIMENSIONS
        for end, word in (("low", "lower"), ("high", "upper"))
    ),
    *(
        Column(f"gate_{stream}", "float64", f"weight of {stream.upper()} in the semantic vector; 0 if {stream}_vector is null. "
               "It is not how much the scores depend on it: a neutral text changes little at any weight", "", "0..1")
        for stream in SEMANTIC_STREAMS
    ),
    Column("router_valence", "list<float64>", "weight of each expert for valence", "", "0..1, sum 1"),
    Column("router_arousal", "list<float64>", "weight of each expert for arousal", "", "0..1, sum 1"),
    Column("router_dominance", "list<float64>", "weight of each expert for dominance", "", "0..1, sum 1"),
    Column("reference", "string", "what the voice was compared with: `recording`, the speaker's utterances in the recording (all "
           "of its utterances, if speakers are unknown), or `speaker`, those in all recordings; null: nothing. With a reference, "
           "a score says how someone speaks compared with how this person usually does", "",
           "recording, speaker", True, 4),
    Column("reference_utterances", "int64", "number of the utterances that the voice was compared with", "", ">= 0", True, 4),
)

STAGES: dict[str, tuple[Column, ...]] = {
    "transcribe": TRANSCRIBE,
    "emphasize": EMPHASIZE,
    "describe": DESCRIBE,
    "embed": EMBED,
    "predict": PREDICT,
}
STAGE_NAMES = tuple(STAGES)

RECORDINGS = (
    Column("recording_id", "string", "path of the recording below the corpus root, with forward slashes"),
    Column("status", "string", "result for the recording", "", "done, no_speech, failed"),
    Column("reason", "string", "why the recording failed, or why a part of it has no rows: one of errors.REASONS; "
           "else null", nullable=True),
    Column("detail", "string", "a sentence about the failure; null if it did not fail", nullable=True),
    Column("size_bytes", "int64", "size of the file; null if unknown", "bytes", nullable=True),
    Column("sha256", "string", "sha256 of the file; null if it was not read", nullable=True),
    Column("duration", "float64", "length of the decoded audio; null if it was not decoded", "s", nullable=True),
    Column("utterances", "int64", "number of its rows in the table", "", ">= 0"),
    Column("seconds", "float64", "time that msfser spent on the recording", "s"),
    Column("input_key", "string", "hash of what the rows are made from: the file's content, and its segments or input rows; "
           "the reason if the file cannot be read; empty if the next run tries it again"),
    Column("note", "string", "what a reader should know about how the recording was read, such as a choice among several audio "
           "tracks: sentences, joined by '; '; null if there is nothing to report", nullable=True, since=4),
    Column("speech_seconds", "float64", "time in which voice activity was detected, within the manifest's segments if there are "
           "any; of several channels the sum; null if it was not measured, as where the manifest gives the text", "s", ">= 0",
           True, 4),
    Column("transcribed_seconds", "float64", "the part of speech_seconds that is at most 1 s from a word, without stretches of "
           "0.7 s or more in which no word lies. What is missing may be lost speech, or singing and noise that sound like "
           "speech; null if it was not measured", "s",
           "0..speech_seconds", True, 4),
)
"""The ledger beside every table. It has one row for each recording, so every input is accounted for."""


@dataclass
class LedgerLine:
    """One line of the ledger, with the columns of `RECORDINGS`."""

    recording_id: str
    status: str = "done"
    reason: str | None = None
    detail: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    duration: float | None = None
    utterances: int = 0
    seconds: float = 0.0
    input_key: str = ""
    note: str | None = None
    speech_seconds: float | None = None
    transcribed_seconds: float | None = None

    @property
    def is_incomplete(self) -> bool:
        """Whether the recording has rows for a part only."""
        return self.status != "failed" and self.reason is not None


def columns_through(stage: str, *, vectors: bool = True) -> tuple[Column, ...]:
    """The columns of the table that `stage` writes, in order, without the vectors if `vectors` is false.

    Raises ValueError if `stage` is not one of `STAGE_NAMES`.
    """
    names = STAGE_NAMES[: STAGE_NAMES.index(stage) + 1]
    return tuple(c for name in names for c in STAGES[name] if vectors or c.type != "vector")


def names(columns: Iterable[Column]) -> list[str]:
    """The names of `columns`, in order."""
    return [c.name for c in columns]
