"""From spots to crystallography: zones, symmetry, phases."""
