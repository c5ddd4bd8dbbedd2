"""Tests of wsrelay.logs."""
