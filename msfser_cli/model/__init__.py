"""MSF-SER itself: valence, arousal and dominance of an utterance from what was said and how.

    les, gs, es ──▶ gated_fusion ──▶ semantic vector ──┐ FiLM: scale and shift
    acoustic ─────▶ projection ────────────────────────┴▶ film_experts ──▶ valence, arousal, dominance

`msf_ser` puts the two together, `config` holds its sizes, `losses` what it is trained on, `weights` how it is stored, and
`metrics` (NumPy only) how it is judged. Nothing here knows of tables, audio or the command line.
"""
