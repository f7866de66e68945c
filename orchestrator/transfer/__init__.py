"""How an object's bytes get from the arena of one node into the arena of another."""
