"""Tests of wsrelay.selftest."""
