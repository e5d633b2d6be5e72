"""`mixer`, and `python -m app`: the process is prepared before the command line, which takes a while to load."""

from app import process


def main() -> None:
    """Run a command."""
    process.prepare()
    from app import cli  # noqa: PLC0415

    cli.main()


if __name__ == "__main__":
    main()
