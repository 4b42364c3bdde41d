"""Runs functions on untrusted files in short-lived confined processes, on Trio."""
