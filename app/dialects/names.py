"""The names of the protocols of others that are spoken here. Light: settings are read with it."""

NAMES = (
    "huggingface",
    "kserve",
    "oip",
    "openai",
    "roboflow",
    "sagemaker",
    "torchserve",
    "vertex",
)
ALL, NONE = "all", "none"
MEANT = {"triton": "oip", "grpc": "MIXER_GRPC_PORT", "tensorflow": "kserve", "tfs": "kserve", "hf": "huggingface"}
