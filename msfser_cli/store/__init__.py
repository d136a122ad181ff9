"""The disk: audio decoding, tables, and everything that must survive `kill -9` and a full disk.

- `audio` turns a file into samples, or says why it cannot. `decoder` starts the process that decodes, and `decoding` is its
  program: `containers` checks the size that a file states, `tracks` chooses an audio track, `timeline` places its sound in time,
  `rumble` filters it, and `channels` mixes or splits it. `levels` scales it for models. `media` is a recording's file while it is
  read, on disk or, by `objects`, in an object store.
- `tables` writes and reads tables. `arrow` turns rows into Arrow, `lineage` says what made a table, `seal` is the checksum of a
  file, `bounds` refuses files that would fill the memory, `reading` turns failures into errors, and `foreign` reads the Parquet
  files of other tools.
- `output` is the output of a run. `place` names its files, `parts` keep its unpublished work, `merge` sorts it, `layout` cuts it
  into files, and `ledger` has a line for each recording. `lock` allows one writer per output, `seen` remembers unchanged files,
  and `atomic` writes whole files or none.
- `shard` is a part of a corpus that is annotated by itself, and `join` makes one output of the outputs of all shards.
- `answers` stores the answers of servers.
"""
