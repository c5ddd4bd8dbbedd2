"""Tests of bench, fuzz, soak and conformance. They run once, not on each interpreter: no user runs these tools."""
