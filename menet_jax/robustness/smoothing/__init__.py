"""Certified segmentation by randomised smoothing: what no small change of an image can change."""
