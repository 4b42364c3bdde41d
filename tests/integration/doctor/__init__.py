"""Tests of `avion_media.doctor` on real services."""
