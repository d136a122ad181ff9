"""The models on this machine.

`registry` has the published models that msfser knows by name. `models` finds a model and verifies its files. `fetch` downloads
one, `export` copies models for a machine without a network, `manifest` reads the lists of their files, and `pickles` converts
weights.
"""
