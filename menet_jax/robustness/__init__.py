"""Robustness of networks: scores on distorted images, and the Jacobian (Sections III-D and IV-F)."""
