"""MSF-SER itself: valence, arousal and dominance of an utterance from what was said and how.

    les, gs, es [B, 3, text_dim] ──▶ gated_fusion ──▶ [B, semantic_dim] ──┐ FiLM: scale and shift
    acoustic [B, acoustic_dim] ────▶ projection ────▶ [B, hidden_dim] ────┴▶ film_experts ──▶ valence, arousal, dominance [B, 3]

`msf_ser` puts the two together, with `plain_fusions` in place of the experts where those are compared. `config` holds its
sizes, `training` fits it to labels by `losses`, `weights` stores it, `scorer` runs it. `pooling` makes the acoustic vector where
a speech encoder's states are at hand. `metrics`, `bootstrap` and `intervals` (NumPy only) say how good its scores are, how sure
that is, and how far off each score may be. Nothing here knows of tables, audio or the command line.
"""
