"""Code generated from `tests/interop/proto` by ``ops/generate-proto``."""
