"""Tables as what people open in other programs.

`export` writes files, in the formats below `formats`, and `page.report` writes pages for a browser. Both write into a folder of
`files`. `glance` sums up a table. They read it through `recordings`. `picture` draws an evaluation.
"""
