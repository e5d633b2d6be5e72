"""Every check and measurement that needs a GPU, in one call.

    PYTHONPATH=. python3 benchmarks/gpu.py --out DIR [--sections provider,parity] [--time-limit-s 540]

Runs from the repository's root on a bare machine with one NVIDIA GPU, without installing the package and without a
network. What it imports (benchmarks/on_gpu/requirements.py) must be there; whatever is not is named at the start, all
at once. Where a machine cannot fetch it, carry it as wheels and unpack these first:

    python3 -m pip install --no-index --no-deps --target site WHEELS/*.whl
    PYTHONPATH=.:site python3 benchmarks/gpu.py --wheels WHEELS --out DIR     (--wheels only looks whether they are in)

onnxruntime-gpu must come before any onnxruntime: both fill the same module. CUDA and cuDNN come from the wheels that
torch depends on.

The section http starts the whole service and needs its packages, too (HTTP_PACKAGES, 35 MB of wheels; without them it
alone is skipped). Where there is a network, this brings them for Python 3.12, with what they need themselves:

    python3 -m pip download --only-binary=:all: --python-version 3.12 --implementation cp --abi cp312 \
        --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 -c constraints.txt -d WHEELS '.[server]'

Writes DIR/gpu.json and DIR/gpu.md after every section, and after every load of the section http, so that what was
measured before a time limit is kept. A section that fails is told with its traceback and leaves the others alone; the
exit code is then 1. `--provider cpu --quick` goes through all of it on any machine, with tiny sizes and figures that
mean nothing.
"""

import argparse
import sys
from pathlib import Path


def numbers(flag: str) -> tuple[int, ...]:
    """Separated by commas. Raises ArgumentTypeError."""
    found = tuple(int(one) for one in flag.split(",") if one.strip().isdecimal())
    if len(found) != len(flag.split(",")) or min(found) < 1:
        raise argparse.ArgumentTypeError(f"{flag!r}; expected numbers from 1 on, separated by commas")
    return found


def parsed(flags: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json and gpu.md")
    parser.add_argument("--provider", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/fashion-mnist"))
    parser.add_argument("--sections", default="", help="some of them, separated by commas; default: all")
    parser.add_argument("--variants", default="B/16,S/16,L/16", help="in this order, in case time runs out")
    parser.add_argument("--batch-sizes", type=numbers, default="1,8,64,256")
    parser.add_argument("--seconds", type=float, help="time for one measurement (default: 0.25, over HTTP 2)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=numbers, default="1,2,4,8", help="of the services that http starts")
    parser.add_argument(
        "--connections", type=numbers, default="8,32,128,256", help="of the loads that http puts on them"
    )
    parser.add_argument("--time-limit-s", type=float, default=0, help="begin nothing new after this; 0: no limit")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to look into for what is missing")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that the script runs")
    return parser.parse_args(flags)


def main(options: argparse.Namespace) -> int:
    """Run the sections, write after each. Returns the exit code: 1 where any failed, 2 where it cannot run."""
    try:
        from benchmarks.on_gpu.requirements import missing  # noqa: PLC0415 -- what is missing is told first
    except ModuleNotFoundError:
        lacking = ["benchmarks: this repository: run from its root with PYTHONPATH=."]
    else:
        lacking = missing(options.provider, options.wheels)
    if lacking:
        print("benchmarks/gpu.py cannot run here. Missing:", *lacking, sep="\n  ", file=sys.stderr)
        return 2
    from benchmarks.on_gpu.run import run  # noqa: PLC0415

    return run(options)


if __name__ == "__main__":
    sys.exit(main(parsed()))
