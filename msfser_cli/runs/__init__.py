"""Runs of stages over recordings, from the input to the table and its ledger.

`source` is the input: a table, or a corpus. `corpus` finds its recordings, with the help of `manifest` and `on_disk` where a list
names them. `chain` plans the stages and loads them. `runner` is the only loop: `ahead` prepares recordings in batches, `annotate`
runs the stages on a batch, and `failures` tells a recording's failure from the machine's. `stopping` ends the loop at a signal.
"""
