"""Scores of saliency maps against masks (Section IV-D), and rank correlations."""
