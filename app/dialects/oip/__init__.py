"""The Open Inference Protocol, version 2, as Triton, KServe and OpenVINO Model Server speak it over REST and gRPC."""
