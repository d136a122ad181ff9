"""Every table msfser writes, column by column.

One row is one utterance, keyed by `recording_id` and `utterance_id`. Each stage adds its own columns to the rows it reads, so
the table after a stage holds the columns of all stages up to it. `scores` drops the vectors unless asked to keep them.

Column types are written as text so that this module needs nothing but the standard library; `store.tables` gives them their
Arrow meaning. `vector` is a fixed-size list of float32 whose length is that of the encoder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SCHEMA_VERSION = 4
SAMPLE_RATE_HZ = 16_000


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
    Column("recording_id", "string", "path below the corpus root, with forward slashes"),
    Column("utterance_id", "string", "recording_id, '#', and the utterance's number in the recording, from 0000"),
    Column("start", "float64", "start of the utterance in the recording", "s", ">= 0"),
    Column("end", "float64", "end of the utterance in the recording", "s", "> start"),
    Column("speaker", "string", "the speaker, where a manifest names one; else SPEAKER_00 and so on, in each recording anew, "
           "where speakers are told apart", nullable=True),
    Column("language", "string", "ISO 639-1 code: the recording's own language, detected or given"),
    Column("language_probability", "float64", "the detector's probability; null when the language was given", "", "0..1", True),
    Column("text", "string", "the transcript, as the recogniser or the manifest spells and spaces it; empty when no word was "
           "recognised"),
    Column("words", WORDS, "the words with their times in the recording (s). They and the blanks between them make up the "
           "text. A word is what stands between blanks, with its punctuation; what stands alone and has neither letter "
           "nor digit belongs to the word before it ('3,5 %'). In Chinese, Thai, Lao, Burmese and Khmer a word is one of ICU's "
           "dictionaries, in Japanese a phrase: a word with its particles and endings. score is the recogniser's or aligner's "
           "probability (null for a word that was not aligned), aligned is false where the times are interpolated"),
)

EMPHASIZE = (
    Column("emphasis", "list<float64>", "prominence of each word, in the order of words; null for a word without a score",
           "weighted z-scores within the utterance"),
    Column("emphasis_cues", CUES, "the z-scores of log-F0, energy and phone duration behind each prominence"),
    Column("emphasis_spans", SPANS, "runs of the most prominent words: their text as it stands in the transcript, without the "
           "punctuation around it, times (s), word indices (inclusive), highest score"),
    Column("emphasized_text", "string", "the texts of emphasis_spans in order: the LES text; null for none", nullable=True),
)

DESCRIBE = (
    Column("pitch_median_hz", "float64", "median F0 of the voiced frames", "Hz", "65..600", True),
    Column("pitch_relative_st", "float64", "pitch_median_hz against the median of the speaker's utterances in the recording;"
           " null where there is only one", "semitones", nullable=True),
    Column("pitch_range_st", "float64", "5th to 95th percentile of F0", "semitones", ">= 0", True),
    Column("pitch_movement_st_per_s", "float64", "median speed of F0 from frame to frame", "semitones/s", ">= 0", True),
    Column("pitch_slope_st_per_s", "float64", "slope of the line through F0 over the utterance", "semitones/s", nullable=True),
    Column("pitch_final_st", "float64", "change of F0 within the last half second of voicing", "semitones", nullable=True),
    Column("loudness_db", "float64", "mean level of the sounding frames; depends on the recording's gain", "dBFS", nullable=True),
    Column("loudness_relative_db", "float64", "loudness_db against the median of the speaker's utterances in the recording;"
           " null where there is only one", "dB", nullable=True),
    Column("loudness_range_db", "float64", "10th to 95th percentile of the level of the sounding frames", "dB", ">= 0", True),
    Column("alpha_ratio_db", "float64", "1-5 kHz against 50-1000 Hz in the voiced frames: vocal effort, free of gain", "dB",
           nullable=True),
    Column("hnr_db", "float64", "harmonics-to-noise ratio of the voiced frames", "dB", "-20..40", True),
    Column("articulation_rate_hz", "float64", "syllables, estimated from the spelling, a second of speech without its pauses",
           "syllables/s", "> 0", True),
    Column("pause_share", "float64", "share of pauses of 0.25 s and more between first and last sound", "", "0..1", True),
    Column("pause_longest", "float64", "the longest pause; 0 for none", "s", ">= 0", True),
    Column("description", "string", "a sentence or two about the delivery: the ES text; null when nothing could be measured",
           nullable=True),
    Column("description_fallback", "string", "why the description is the measured one although a model was asked: one of "
           "FALLBACKS; null where it is the describer's own", nullable=True),
)

FALLBACKS: dict[str, str] = {
    "refused": "the model says that it will not or cannot",
    "looped": "it repeats itself",
    "language": "it answers in another language than English",
    "empty": "it says nothing",
    "rejected": "the utterance could not be given to it: too long, or what a server will not take",
}
"""Why a description is the measured one although a model was asked. `description_fallback` holds nothing else."""

EMBED = (
    Column("acoustic_vector", "vector", "the utterance's speech, pooled over its frames", nullable=True),
    Column("les_vector", "vector", "Local Emphasized Semantics: the emphasised words, as a text of their own (les = words), or"
           " the mean of their tokens' states in the transcript (les = context); null where there are none, or all lie beyond the"
           " encoder's length", nullable=True),
    Column("gs_vector", "vector", "Global Semantics: the transcript", nullable=True),
    Column("es_vector", "vector", "Extended Semantics: the description", nullable=True),
)

PREDICT = (
    Column("valence", "float64", "negative to positive; null where the checkpoint was not trained on it",
           "the checkpoint's scale, in the file's metadata", nullable=True),
    Column("arousal", "float64", "calm to excited; null as valence", "the checkpoint's scale", nullable=True),
    Column("dominance", "float64", "weak to strong; null as valence", "the checkpoint's scale", nullable=True),
    *(
        Column(f"{dimension}_{end}", "float64", f"{word} end of the interval that holds the rating at the level in the metadata;"
               " null where the checkpoint is not calibrated", "the checkpoint's scale", nullable=True)
        for dimension in ("valence", "arousal", "dominance")
        for end, word in (("low", "lower"), ("high", "upper"))
    ),
    Column("gate_les", "float64", "weight of LES in the semantic vector; 0 where it is absent", "", "0..1"),
    Column("gate_gs", "float64", "weight of GS in the semantic vector; 0 where it is absent", "", "0..1"),
    Column("gate_es", "float64", "weight of ES in the semantic vector; 0 where it is absent", "", "0..1"),
    Column("router_valence", "list<float64>", "weight of each expert for valence", "", "0..1, sum 1"),
    Column("router_arousal", "list<float64>", "weight of each expert for arousal", "", "0..1, sum 1"),
    Column("router_dominance", "list<float64>", "weight of each expert for dominance", "", "0..1, sum 1"),
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
    Column("recording_id", "string", "path below the corpus root, with forward slashes"),
    Column("status", "string", "what became of the recording", "", "done, no_speech, failed"),
    Column("reason", "string", "why it failed, from the closed list in errors.REASONS", nullable=True),
    Column("detail", "string", "the failure in words", nullable=True),
    Column("size_bytes", "int64", "size of the file", "bytes", nullable=True),
    Column("sha256", "string", "hash of the file's content", nullable=True),
    Column("duration", "float64", "length of the decoded audio", "s", nullable=True),
    Column("utterances", "int64", "rows in the table", "", ">= 0"),
    Column("seconds", "float64", "time spent on it", "s"),
    Column("input_key", "string", "hash of what the rows are made from: the content, and segments or input rows if given; "
           "the reason where the file cannot be read"),
    Column("note", "string", "what a reader should know of how the recording was read, such as a choice among several audio "
           "tracks: sentences, joined by '; '", nullable=True, since=4),
)
"""The ledger beside every table: one row a recording, so that every input ends somewhere."""


def columns_through(stage: str, *, vectors: bool = True) -> tuple[Column, ...]:
    """The columns of the table that `stage` writes, in order; without the vectors if `vectors` is false."""
    names = STAGE_NAMES[: STAGE_NAMES.index(stage) + 1]
    return tuple(c for name in names for c in STAGES[name] if vectors or c.type != "vector")


def names(columns: Iterable[Column]) -> list[str]:
    """The names of `columns`."""
    return [c.name for c in columns]
