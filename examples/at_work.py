"""Draw docs/at-work.svg: example pictures, posted to a running service, beside what it answers.

    .venv/bin/python examples/at_work.py http://127.0.0.1:8000 docs/at-work.svg

Knows the HTTP interface and nothing of the code behind it.
"""

import base64
import sys
from html import escape
from pathlib import Path
from typing import Any

import httpx

EXAMPLES = Path(__file__).parent
SHOWN = ("pants", "t-shirt", "dress", "skirt")
ROW, WIDTH, BAR = 104, 840, 240
STYLE = "text{font:14px ui-monospace,monospace;fill:#d7dde4}.dim{fill:#8b96a3}"


def answer_of(client: httpx.Client, image: Path) -> tuple[list[dict[str, Any]], str]:
    """The three most probable labels, and the time that the service spent, as Server-Timing says it."""
    response = client.post("/classify", params={"top_k": 3}, files={"file": image.read_bytes()})
    response.raise_for_status()
    total = next(part for part in response.headers["server-timing"].split(", ") if part.startswith("total"))
    return response.json()["predictions"], total.partition("dur=")[2]


def row(top: int, image: Path, predictions: list[dict[str, Any]], total_ms: str) -> str:
    """One picture, what was typed, and a bar a label."""
    jpeg = base64.b64encode(image.read_bytes()).decode()
    parts = [
        f'<image x="20" y="{top}" width="84" height="84" preserveAspectRatio="xMidYMid slice" '
        f'href="data:image/jpeg;base64,{jpeg}"/>',
        f'<text x="124" y="{top + 12}">$ curl -F file=@examples/{image.name} '
        "&apos;127.0.0.1:8000/classify?top_k=3&apos;"
        f'<tspan class="dim">  {total_ms} ms</tspan></text>',
    ]
    for place, prediction in enumerate(predictions):
        y, probability = top + 24 + place * 21, prediction["probability"]
        parts.append(f'<rect x="250" y="{y}" width="{max(1, probability * BAR):.0f}" height="14" fill="#4c9be8"/>')
        parts.append(f'<text x="124" y="{y + 12}">{escape(prediction["label"])}</text>')
        parts.append(f'<text x="{260 + BAR}" y="{y + 12}" class="dim">{probability:.2%}</text>')
    return "\n".join(parts)


def main(address: str, target: str) -> None:
    """Ask for every picture, and write the drawing."""
    with httpx.Client(base_url=address) as client:
        for name in SHOWN:
            answer_of(client, EXAMPLES / f"{name}.jpg")  # the first of each is not timed
        answers = [(EXAMPLES / f"{name}.jpg", *answer_of(client, EXAMPLES / f"{name}.jpg")) for name in SHOWN]
    rows = [row(16 + place * ROW, *answer) for place, answer in enumerate(answers)]
    height = ROW * len(rows) + 16
    Path(target).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">\n'
        f'<style>{STYLE}</style>\n<rect width="100%" height="100%" rx="8" fill="#161b22"/>\n'
        + "\n".join(rows)
        + "\n</svg>\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
