"""TFDS dataset builders, one folder each; importable as `menet_jax.datasets.<name>`."""
