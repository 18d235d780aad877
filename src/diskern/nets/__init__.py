"""Networks on diffraction patterns, and the weightless layers in front of them."""
