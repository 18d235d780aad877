"""Where crystals come from: folders of CIF, OPTIMADE providers, the Materials Project, AFLOW."""
