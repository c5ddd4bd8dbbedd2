"""Tests of what is in examples/: each is run as a reader would run it."""
