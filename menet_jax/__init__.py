"""MEnet, the Metric Expression Network for robust salient object segmentation, in JAX and Flax."""
