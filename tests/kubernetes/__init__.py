"""The manifests of deploy/kubernetes, rendered as kubectl does it, and held against what they stand on."""
