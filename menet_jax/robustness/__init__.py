"""How a network takes distortions, and what its Jacobian says of that (Sections III-D and IV-F)."""
