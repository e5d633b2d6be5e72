"""What must be there before anything of this can be imported. Loads nothing heavy to find out."""

from importlib.util import find_spec
from pathlib import Path

PACKAGES = {
    "app": "this repository: run from its root with PYTHONPATH=.",
    "numpy": "numpy",
    "PIL": "pillow",
    "pydantic": "pydantic",
    "pydantic_core": "pydantic-core",
    "annotated_types": "annotated-types",
    "typing_inspection": "typing-inspection",
    "torch": "torch, a CUDA build",
    "onnx": "onnx",
    "onnx_ir": "onnx-ir",
    "onnxscript": "onnxscript",
    "ml_dtypes": "ml-dtypes",
    "onnxruntime": "onnxruntime-gpu",
}
HTTP_PACKAGES = {
    "fastapi": "fastapi",
    "starlette": "starlette",
    "uvicorn": "uvicorn",
    "uvloop": "uvloop",
    "httptools": "httptools",
    "h11": "h11",
    "anyio": "anyio",
    "idna": "idna",
    "click": "click",
    "pydantic_settings": "pydantic-settings",
    "dotenv": "python-dotenv",
    "pythonjsonlogger": "python-json-logger",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
    "opentelemetry": "opentelemetry-api",
    "typer": "typer",
    "shellingham": "shellingham",
    "rich": "rich",
    "markdown_it": "markdown-it-py",
    "mdurl": "mdurl",
    "pygments": "pygments",
    "annotated_doc": "annotated-doc",
    "typing_extensions": "typing-extensions",
}


def absent(packages: dict[str, str], wheels: Path | None) -> list[str]:
    """A line for each that cannot be imported; with a folder of wheels, whether it lies there."""
    lacking = {module: package for module, package in packages.items() if find_spec(module) is None}
    if wheels is None:
        return [f"{module}: {package}" for module, package in lacking.items()]
    held = {path.name.split("-")[0].lower() for path in wheels.glob("*.whl")}
    names = {module: package.split(",")[0].replace("-", "_").lower() for module, package in lacking.items()}
    return [
        f"{module}: {package} ({'in' if names[module] in held else 'not in'} {wheels})"
        for module, package in lacking.items()
    ]


def missing(provider: str, wheels: Path | None) -> list[str]:
    """What stands in the way, one line each; nothing heavy is loaded to find out unless all of it is there."""
    lines = absent(PACKAGES, wheels)
    if lines or provider == "cpu":
        return lines
    import onnxruntime  # noqa: PLC0415
    import torch  # noqa: PLC0415

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        lines.append(
            f"onnxruntime {onnxruntime.__version__} at {onnxruntime.__file__} is the CPU build; "
            f"put onnxruntime-gpu before it on PYTHONPATH"
        )
    if not torch.cuda.is_available():
        lines.append(f"torch {torch.__version__} sees no GPU")
    return lines
