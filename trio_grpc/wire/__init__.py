"""Code generated from ``trio_grpc/proto/`` by ``ops/generate-proto``; only this file is written by hand."""

from google.protobuf.descriptor_pool import DescriptorPool

transport_pool = DescriptorPool()
"""Holds gRPC's own health and reflection messages, apart from the default pool: a process may also load the packages
grpcio-health-checking and grpcio-reflection, which define the same names."""
