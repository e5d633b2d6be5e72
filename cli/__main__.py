"""`mixer`, and `python -m cli`: the process is prepared before the command line, which takes a while to load."""

import sys

from cli import process

_SERVERS = {
    "PIL", "fastapi", "httptools", "numpy", "onnxruntime", "prometheus_client", "pydantic", "pydantic_settings",
    "python_multipart", "pythonjsonlogger", "rich", "starlette", "typer", "uvicorn", "uvloop",
}  # fmt: skip


_STOPPED = 130  # as a shell has it for SIGINT


def main() -> None:
    """Run a command. Where the server's packages are not installed, one line says what brings them."""
    process.prepare()
    try:
        _run()
    except KeyboardInterrupt:  # while the command line was loading
        sys.stderr.write("\nmixer: stopped.\n")
        sys.exit(_STOPPED)
    except ModuleNotFoundError as error:
        if error.name not in _SERVERS:
            raise
        sys.exit(
            f"mixer: {error.name} is not installed; expected the packages of the server: "
            "scripts/install cpu, or pip install 'mixer-serve[cpu]'."
        )


def _run() -> None:
    if sys.argv[1:] == ["health"]:  # runs every few seconds, so it imports little
        from cli import health  # noqa: PLC0415

        sys.exit(health.main())
    from cli import main as commands  # noqa: PLC0415

    commands.main()


if __name__ == "__main__":
    main()
