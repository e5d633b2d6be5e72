"""A proved ONNX Runtime session over one bundle. Knows nothing of files of images or HTTP."""
