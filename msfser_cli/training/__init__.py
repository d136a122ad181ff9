"""Fits a head to vectors and labels.

`training_set` reads vectors and labels, `fit` is the loop over epochs, `train` writes the head, and `finetune` trains a speech
encoder with it.
"""
