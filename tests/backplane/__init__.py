"""Tests of wsrelay.backplane."""
