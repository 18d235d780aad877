"""Bragg spots, rings and two-dimensional lattices of a pattern."""
