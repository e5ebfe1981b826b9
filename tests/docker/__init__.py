"""End to end: a real engine, real compose, the image as it is built from this source."""
