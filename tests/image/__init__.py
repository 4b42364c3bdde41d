"""The container image as it was built. `make image` runs these tests; `make test` does not: a build takes minutes."""
