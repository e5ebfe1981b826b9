"""Making it so: the only writing to the world."""
