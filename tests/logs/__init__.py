"""Tests of wsrelay.logs.observers."""
