"""The MSF-SER model: valence, arousal and dominance of an utterance, from its voice and its texts.

    les, gs, es [B, 3, text_dim] ──▶ gated_fusion ──▶ [B, semantic_dim] ──┐ FiLM: scale and shift
    acoustic [B, acoustic_dim] ────▶ projection ────▶ [B, hidden_dim] ────┴▶ film_experts ──▶ valence, arousal, dominance [B, 3]

`msf_ser` is the whole model. `plain_fusions` has other fusions to compare the experts with. `config` has the sizes, `losses` what
training minimises, `weights` stores the model, and `scorer` runs it. `pooling` turns a speech encoder's states into the acoustic
vector. This package does not import tables, audio or the command line.
"""
