"""What an operator does: init, doctor, inspect."""
