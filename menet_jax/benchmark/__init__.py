"""Benchmarks: how fast things are here, each against what one would compare it with."""
