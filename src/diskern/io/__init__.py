"""Readers of microscope files; each gives a `Recording`."""

from diskern.io.recording import ArrayLikeLazy, Recording
from diskern.io.registry import Format, formats, open_file, recognise

__all__ = ["ArrayLikeLazy", "Format", "Recording", "formats", "open_file", "recognise"]
