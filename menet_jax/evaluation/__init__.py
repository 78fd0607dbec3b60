"""Saliency maps of trained networks, and their scores (Section IV-D)."""
