"""Fold the per-channel affines of a trained Caffe network into its weights, and prove that it computes the same."""
