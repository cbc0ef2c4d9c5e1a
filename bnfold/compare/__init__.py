"""Comparing two networks: blob by blob, sample by sample, answer by answer. `bnfold.compare` is the entry."""
