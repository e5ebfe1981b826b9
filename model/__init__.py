"""What should be: pure values and pure functions. No sockets, clock, os, randomness or logging."""
