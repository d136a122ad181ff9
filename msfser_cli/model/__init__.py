"""MSF-SER itself: valence, arousal and dominance of an utterance from what was said and how.

    les, gs, es ──▶ gated_fusion ──▶ semantic vector ──┐ FiLM: scale and shift
    acoustic ─────▶ projection ────────────────────────┴▶ film_experts ──▶ valence, arousal, dominance

`msf_ser` puts the two together, with `plain_fusions` in place of the experts where those are compared. `config` holds its
sizes, `training` fits it to labels by `losses`, `weights` stores it, `scorer` runs it. `metrics` and `intervals` (NumPy only)
say how good its scores are, and how far off each may be. Nothing here knows of tables, audio or the command line.
"""
