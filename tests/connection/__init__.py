"""Tests of wsrelay.connection."""
