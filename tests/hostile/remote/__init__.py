"""Hostile URLs and hostile servers."""
