"""The manifests on a real API server: `make kubernetes`. Not part of `make test`, because it needs kube-apiserver."""
