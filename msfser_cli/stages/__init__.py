"""What each command does.

- `transcribe`, `emphasize`, `describe`, `embed`, `predict`: a recording's rows (and its audio, and a back end) to rows with more
  columns. `corpus` finds the recordings, `chain` makes the stages ready, `runner` is the only batch loop, `stopping` ends it at a
  signal.
- `evaluate`: scores against labels. `labels` reads these, `joining` finds their utterances, `pairing` sets the scores beside,
  `clusters` says who varies together; `picture` and `submission` write what comes of it. `calibrate` makes prediction intervals
  from the same pairs.
- `train`: labels and vectors to a head. `training_set` is what it learns from, `finetune` the encoder that may learn along.
"""
