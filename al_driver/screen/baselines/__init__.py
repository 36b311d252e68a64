"""Models of energies that are no networks: what candidates of one crystal are ranked by where nothing was trained."""
