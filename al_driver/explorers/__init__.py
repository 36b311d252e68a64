"""Molecular dynamics with the models: one file an explorer."""
