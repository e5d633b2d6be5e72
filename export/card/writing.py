"""A card's files in a bundle: README.md, card.json, charts/. Knows how they are replaced, not what they tell."""

from importlib.util import find_spec
from pathlib import Path

from export.card.facts import CardFacts
from export.card.model_card import model_card
from export.card.prose import read_prose
from export.card.readme import readme
from model.errors import ExportError
from model.network.checkpoint_folder import write_atomically

README, JSON, CHARTS = "README.md", "card.json", "charts"


def write_card(bundle: Path, facts: CardFacts) -> Path:
    """Write the card with the prose of the bundle's card.toml, and return the path of its README.md.

    What README.md says outside of the card's markers is kept; charts of an earlier card are removed. Without
    matplotlib nothing is drawn.

    Raises: ExportError.
    """
    prose = read_prose(bundle)
    charts = _charts(facts)
    try:
        earlier = (bundle / README).read_text(encoding="utf-8") if (bundle / README).exists() else ""
        files = {f"{CHARTS}/{name}.svg": text for name, text in charts.items()}
        card = model_card(facts, prose, files)
        files[README] = readme(facts, prose, charts, earlier)
        files[JSON] = card.model_dump_json(indent=1, exclude_defaults=True) + "\n"
        for path in (bundle / CHARTS).glob("*.svg"):
            if f"{CHARTS}/{path.name}" not in files:
                path.unlink()
        for name, text in files.items():
            (bundle / name).parent.mkdir(exist_ok=True)
            write_atomically(bundle / name, lambda path, text=text: path.write_text(text, encoding="utf-8"))  # type: ignore[misc]
    except (OSError, UnicodeError) as error:
        raise ExportError(f"The card of {bundle} cannot be written: {error}") from error
    return bundle / README


def _charts(facts: CardFacts) -> dict[str, str]:
    if facts.findings is None or find_spec("matplotlib") is None:
        return {}
    from model.evaluation.charts import charts_of  # noqa: PLC0415 -- slow to load, and an extra of its own

    return charts_of(facts.findings)
