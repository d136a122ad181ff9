"""Compares scores with labels.

`labels` reads the labels, `joining` finds their utterances, `pairing` adds the scores, and `clusters` groups them by speaker.
`evaluate` computes the result. `calibrate` makes prediction intervals from the same pairs.
"""
