"""How data moves: sources to shards to tensors."""
