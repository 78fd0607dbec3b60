"""Scores on distorted images: Table II and Figure 9."""
