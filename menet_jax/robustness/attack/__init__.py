"""Attacks: the worst change of an image that is found within a distance."""
