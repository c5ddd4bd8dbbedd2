"""Tests of wsrelay.wire."""
