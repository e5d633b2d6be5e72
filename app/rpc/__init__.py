"""The Open Inference Protocol over gRPC, for the same pictures, models, keys and limits as over HTTP."""
