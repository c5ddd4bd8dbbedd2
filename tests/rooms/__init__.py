"""Tests of wsrelay.rooms."""
