"""README.md beside timm's layout: the model card of a bundle, and how timm loads what lies there. Writes no file."""

from collections.abc import Iterator, Sequence

from export.card.facts import CardFacts, GraphFacts
from export.card.front_matter import BUNDLE
from export.card.prose import CardProse
from export.card.readme import readme
from export.outgoing.timm_layout import ENTRY_POINT, needs_entry_point, transform_notes
from model.network.checkpoint import Checkpoint
from model.network.checkpoint_folder import WEIGHTS
from model.spec import ModelSpec, Network

TIMM = "timm"


def timm_readme(checkpoint: Checkpoint, prose: CardProse, num_bytes: int, graphs: Sequence[GraphFacts] = ()) -> str:
    """num_bytes: of the file of weights. graphs: of a bundle that lies beside it."""
    network = Network(**{size: getattr(checkpoint.model.config, size) for size in Network.model_fields})
    weights = GraphFacts(WEIGHTS, num_bytes, checkpoint.spec.model_copy(update={"network": network}))
    facts = CardFacts(tuple(graphs) or (weights,), is_blank=not checkpoint.model.head.weight.any())
    libraries = (TIMM, *BUNDLE) if graphs else (TIMM,)
    return readme(facts, prose, (), "\n\n".join(_usage(checkpoint)), libraries)


def with_timm(card: str, checkpoint: Checkpoint) -> str:
    """A bundle's card, which tells of timm's layout, too."""
    library, tag = f"library_name: {BUNDLE[0]}\n", f"- {BUNDLE[-1]}\n"
    card = card.replace(library, f"library_name: {TIMM}\n", 1).replace(tag, f"{tag}- {TIMM}\n", 1)
    return card.rstrip("\n") + "\n\n" + "\n\n".join(_usage(checkpoint)) + "\n"


def _usage(checkpoint: Checkpoint) -> Iterator[str]:
    """The part below the card: a program, and what it does otherwise."""
    spec = checkpoint.spec
    yield "## With timm"
    if needs_entry_point(checkpoint.model.config):
        yield (
            f"No entry point of timm's own builds this network. `{ENTRY_POINT}`, a few lines beside this file, "
            "registers one: it is imported first."
        )
    lines = "\n".join(_program(spec, needs_entry_point(checkpoint.model.config)))
    yield f"```python\n{lines}\n```"
    notes = transform_notes(spec)
    if notes:
        yield "\n".join(f"- {note}." for note in notes)


def _program(spec: ModelSpec, own_entry_point: bool) -> Iterator[str]:
    yield "import timm"
    if own_entry_point:
        yield f"import {ENTRY_POINT.removesuffix('.py')}  # {ENTRY_POINT}, in the folder where Python runs"
    yield "from PIL import Image"
    yield ""
    yield 'model = timm.create_model("local-dir:.", pretrained=True).eval()  # or "hf-hub:ORG/REPO"'
    yield "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))"
    yield f'image = Image.open("picture.jpg").convert("{"L" if spec.channels == 1 else "RGB"}")'
    yield "logits = model(transform(image).unsqueeze(0))[0]"
    yield 'print(model.pretrained_cfg["label_names"][int(logits.argmax())])'
