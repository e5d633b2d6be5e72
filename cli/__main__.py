"""`mixer`, and `python -m cli`: the process is prepared before the command line, which takes a while to load."""

import sys

from cli import process


def main() -> None:
    """Run a command."""
    process.prepare()
    if sys.argv[1:] == ["health"]:  # runs every few seconds, so it imports little
        from cli import health  # noqa: PLC0415

        sys.exit(health.main())
    from cli import main  # noqa: PLC0415

    main.main()


if __name__ == "__main__":
    main()
