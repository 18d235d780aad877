"""Training sets: recipes, the crystals they name, samples on the fly and in shards."""
