"""The origin: bytes and requests for its CPU, against nginx (the limit) and what one would write in an afternoon."""
