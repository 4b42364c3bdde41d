"""Tests of `avion_media.operations.doctor` on real services."""
