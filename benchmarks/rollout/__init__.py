"""A rolling update of the Kubernetes manifests, played on this machine under traffic."""
