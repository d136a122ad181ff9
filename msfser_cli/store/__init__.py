"""The disk: audio decoding, tables, and everything that must survive `kill -9` and a full disk.

- `audio` turns a file into samples, or says why it cannot. `decoder` starts the process that decodes, and `decoding` is its
  program: `containers` checks the size that a file states, `tracks` chooses an audio track, `timeline` places its sound in time,
  `rumble` filters it, and `channels` mixes or splits it. `levels` scales it for models.
- `tables` turns rows into Parquet with checksums and a lineage, and back.
- `output` keeps the parts and the ledger of a run, and publishes them. `lock` allows one writer per output, `seen` remembers
  unchanged files, and `atomic` writes a file whole or not at all.
- `answers` stores the answers of servers.
"""
