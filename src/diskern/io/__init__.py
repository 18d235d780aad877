"""Readers of microscope files; each gives a `Recording`."""
