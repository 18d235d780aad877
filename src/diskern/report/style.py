"""Colours and marks shared by the figures and the page (colour-blind safe, IBM palette)."""

LATTICE_COLOURS = ("#ffb000", "#4cc9f0", "#ff5fa2", "#9d8cff")
"""One colour a lattice, strongest lattice first."""

LONE_SPOT_COLOUR = "#d0d4dc"
MASK_COLOUR = "#648fff"
CENTRE_COLOUR = "#ff5a4d"
RING_COLOUR = "#4cc9f0"
