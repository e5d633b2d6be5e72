"""For every test: ONNX Runtime reports nothing, whoever imports it first."""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
