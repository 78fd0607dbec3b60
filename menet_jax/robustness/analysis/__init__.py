"""The Jacobian of trained runs at images of datasets: Table III, Eq. 11 to 13."""
