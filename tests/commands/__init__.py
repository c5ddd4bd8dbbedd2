"""Tests of wsrelay.commands."""
