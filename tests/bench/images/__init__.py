"""CPU time and quality of thumbnails against sharp: `python -m tests.bench.images.compare`."""
