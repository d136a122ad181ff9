"""The disk: audio decoding, tables, and everything that must survive `kill -9` and a full disk.

- `audio`   a file becomes samples, or a reason why not: `decoder` is the process that makes them, `decoding` what it does, and
  `containers` knows what a file says of its own size
- `tables`  rows become Parquet with checksums and a lineage, and back
- `atomic`  a file is there whole or not at all
- `lock`    one writer per output
- `seen`    what need not be read again
- `output`  a run's work in parts, its ledger, and publishing
"""
