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
ALL = "all"
