"""Calibrated images and scans, and what can be read off one image."""
