"""The work of each command.

- `transcribe`, `emphasize`, `describe`, `embed` and `predict` add columns to the rows of a recording, from its audio and a back
  end. `corpus` finds the recordings, `chain` prepares the stages, `runner` is the only batch loop, and `stopping` ends it at a
  signal.
- `evaluate` compares scores with labels. `labels` reads the labels, `joining` finds their utterances, `pairing` adds the scores,
  and `clusters` groups utterances by speaker. `picture` and `submission` write the result. `calibrate` makes prediction intervals
  from the same pairs.
- `train` fits a head to vectors and labels. `training_set` reads them, and `finetune` trains a speech encoder with the head.
"""
