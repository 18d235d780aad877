"""Work in blocks: executors, result files that are whole or absent, runs that resume."""
