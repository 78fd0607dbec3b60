"""Devices, workers, progress and text: what every part of the program needs of the machine it runs on."""
