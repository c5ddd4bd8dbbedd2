"""Tests that read the pages: each command on them is run, and each answer on them is compared."""
