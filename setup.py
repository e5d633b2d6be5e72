"""What pyproject.toml cannot say of a wheel: it has the folders of the repository under one name, mixer_serve.

`app`, `model`, `export` and `cli` are names that anybody may have in site-packages. A wheel has them as mixer_serve.app
and so on, with their imports rewritten to match; an editable install keeps the names of the repository. mixer_client is
what other programs import, and has that name in both.
"""

import re
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

NAMESPACE = "mixer_serve"
FOLDERS = ("app", "cli", "export", "model")
CLIENT = "mixer_client"
SHIPPED = ["*/fp32.onnx", "*/fp16.onnx", "*/int8.onnx", "*/README.md", "*/card.json"]  # of a bundle
BESIDE = ["swagger_ui/*", "page/*", "pictures/*"]  # data in a package's folder
IMPORT = re.compile(rf"^(\s*(?:from|import) )(?={'|'.join(FOLDERS)}\b)", re.MULTILINE)

packages = find_packages(include=[pattern for folder in FOLDERS for pattern in (folder, f"{folder}.*")])
client = find_packages(include=[CLIENT])

bundles = ["bundles"] if Path("bundles").is_dir() else []  # data: the classifiers that ship; an image has its own


class BuildUnderOneName(build_py):
    """Rewrites `from app.x import y` to `from mixer_serve.app.x import y` in what was copied for the wheel."""

    def run(self) -> None:
        """Copy, then rewrite."""
        super().run()
        if not self.editable_mode:
            for module in Path(self.build_lib, NAMESPACE).rglob("*.py"):
                text = module.read_text(encoding="utf-8")
                module.write_text(IMPORT.sub(rf"\1{NAMESPACE}.", text), encoding="utf-8")


if "editable_wheel" in sys.argv:
    setup(packages=[*packages, *client], entry_points={"console_scripts": ["mixer = cli.__main__:main"]})
else:
    setup(
        packages=[*(f"{NAMESPACE}.{package}" for package in (*packages, *bundles)), *client],
        package_dir={f"{NAMESPACE}.{folder}": folder for folder in (*FOLDERS, *bundles)},
        package_data={
            **{
                f"{NAMESPACE}.{package}": ["py.typed", "*.onnx", "*.proto", "*.pyi", "*.txt", *BESIDE]
                for package in packages
            },
            **{f"{NAMESPACE}.{folder}": SHIPPED for folder in bundles},
            **{package: ["py.typed"] for package in client},
        },
        entry_points={"console_scripts": [f"mixer = {NAMESPACE}.cli.__main__:main"]},
        cmdclass={"build_py": BuildUnderOneName},
    )
