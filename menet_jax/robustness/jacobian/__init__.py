"""Norms, bounds and sensitivity of the Jacobian of any image → map function (Section III-D, Eq. 6 to 13)."""
