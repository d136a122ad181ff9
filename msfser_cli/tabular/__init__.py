"""Reads tables of other tools, such as manifests and label files.

`reader` reads the cells of CSV, TSV, JSON, JSONL and Parquet. `roles` finds the meaning of columns. `times` reads times. `lhotse`
flattens the nested objects of lhotse's manifests.
"""

from msfser_cli.tabular.reader import SUFFIXES, Columns, is_table_name, read_columns

__all__ = ["SUFFIXES", "Columns", "is_table_name", "read_columns"]
