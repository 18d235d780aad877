"""From a crystal to its diffraction pattern."""
