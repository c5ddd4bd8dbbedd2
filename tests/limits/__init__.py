"""Tests of wsrelay.limits."""
