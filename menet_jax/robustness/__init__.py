"""How a network takes distortions, and what its Jacobian says of that (Section IV-F, IV-G)."""
