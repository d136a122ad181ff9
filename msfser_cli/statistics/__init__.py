"""How good scores are, how certain that number is, and how far off each score may be. NumPy only.

`metrics` has CCC, Pearson, RMSE and MAE, `bootstrap` their confidence intervals over clusters, and `intervals` the prediction
intervals of single scores.
"""
