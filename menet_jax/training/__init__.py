"""From a configuration to a trained network on disk (Section III-D, IV-B)."""
