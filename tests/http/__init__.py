"""Tests of wsrelay.http."""
