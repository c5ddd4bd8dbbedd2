"""Tests of wsrelay.net."""
