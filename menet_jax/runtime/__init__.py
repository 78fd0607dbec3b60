"""Devices, workers, progress and text: the parts that depend on the machine."""
