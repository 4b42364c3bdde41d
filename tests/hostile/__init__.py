"""Tests in which everybody else means harm."""
