"""Fuzzing a live server: the server and a good client are processes of their own, the attackers run here."""
