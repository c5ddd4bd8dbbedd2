"""Tests of wsrelay.admin."""
