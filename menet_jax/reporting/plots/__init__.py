"""Figures for a paper: each function takes numbers or images and returns a matplotlib figure, `page.save` writes it.

`page` holds what all have in common, one module a kind of figure the rest.
"""
