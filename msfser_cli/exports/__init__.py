"""Tables as what people open in other programs.

`export` writes files, in the formats below `formats`, and `page.report` writes pages for a browser. `glance` sums up a table, and
`picture` draws an evaluation. All read the table through `recordings`, and write through `files`.
"""
