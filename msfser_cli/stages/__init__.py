"""The five stages: each adds its columns to the rows of recordings, from their audio and a back end.

`transcribe` makes the utterances, `emphasize` scores their words, `describe` says how they are spoken, `embed` makes vectors of
voice and texts, and `predict` scores the vectors. A stage gets any number of recordings at once, each a `work.Work`, and its
`stage.Stage` says which models it needs and how they are loaded. `recogniser` finds those of transcribe. `coverage` measures how
much of the speech has words, and `overlaps` notes segments that overlap.
"""
