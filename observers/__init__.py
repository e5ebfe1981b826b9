"""What is: the only reading of the world."""
