"""Norms, bounds and sensitivity of the Jacobian of any image → map function (Section IV-G)."""
