"""Runs of stages over recordings, from the input to the table and its ledger.

`source` is the input: a table, or a corpus. `corpus` finds its recordings, with the help of `manifest` and `on_disk` where a list
names them, and of `in_store` in an object store. `root` says what an id means below the corpus root. `chain` plans the stages and
loads them.

`runner` is the only loop: `turns` gives the order, an engine of `engines` does the work, and `failures` tells a recording's
failure from the machine's. `stopping` ends the loop at a signal. An engine takes each `task` through the same steps: `ahead`
prepares it and puts it into a batch, and `annotate` runs the stages on the batch.
"""
