"""Tests of wsrelay.cli."""
