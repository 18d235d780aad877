"""Structures: the unit cell, its symmetry tables, its orientation."""
