"""Tables that other tools wrote, such as manifests and label files: cells first, their meaning second.

`reader` reads the cells of CSV, TSV, JSON, JSONL and Parquet, `roles` says which column means what, `times` reads times, and
`lhotse` takes apart the nested objects of lhotse's manifests.
"""

from msfser_cli.stages.tabular.reader import SUFFIXES, Columns, is_table_name, read_columns

__all__ = ["SUFFIXES", "Columns", "is_table_name", "read_columns"]
