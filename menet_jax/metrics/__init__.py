"""Scores of saliency maps against masks (Section IV-A), and rank correlations."""
