"""Samples: arrays, images, data sets, and how an image becomes an input."""
