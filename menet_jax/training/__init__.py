"""Training: from a configuration to a trained network on disk (Sections III-B and IV-B)."""
