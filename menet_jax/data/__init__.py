"""Datasets by name or folder, batches for training, and checks of downloads."""
