"""Geometry: supercells, scaled cells, perturbed copies. Å; cells are row vectors, as in ASE."""
