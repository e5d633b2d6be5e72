"""Kept pictures as tasks of Label Studio, with the model's answers as predictions and labels as annotations."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from app.collection.folder import Kept

CONFIGURATION = ".xml"  # the ending of what lies beside the tasks
_FROM, _TO = "label", "image"
_MEDIA_TYPES = {".jpg": "jpeg"}


def write(kept: Sequence[Kept], output: Path) -> int:
    """Write the tasks to OUTPUT, and the labelling configuration they fit beside it, as .xml; returns how many.

    Raises: OSError.
    """
    tasks = [task_of(one) for one in kept]
    output.write_text(json.dumps(tasks, ensure_ascii=False), encoding="utf-8")
    output.with_suffix(CONFIGURATION).write_text(configuration_of(kept), encoding="utf-8")
    return len(tasks)


def task_of(one: Kept) -> dict[str, Any]:
    """A picture as a task: it is inside, so that Label Studio needs no access to the folder."""
    record, best = one.record, one.record.predictions[0]
    ending = _MEDIA_TYPES.get(one.picture.suffix, one.picture.suffix[1:])
    content = base64.b64encode(one.picture.read_bytes()).decode()
    task: dict[str, Any] = {
        "data": {
            "image": f"data:image/{ending};base64,{content}",
            "request_id": record.request_id,
            "index": record.index,
            "time": record.time,
        },
        "predictions": [
            {
                "model_version": f"{record.model.name} {record.model.version} {record.model.precision}",
                "score": best.probability,
                "result": [_choice(best.label) | {"score": best.probability}],
            }
        ],
    }
    if one.label is not None:
        task["annotations"] = [{"result": [_choice(one.label)]}]
    return task


def configuration_of(kept: Sequence[Kept]) -> str:
    """What Label Studio shows: the picture, and every label that occurs in these answers."""
    labels = {prediction.label for one in kept for prediction in one.record.predictions}
    labels |= {one.label for one in kept if one.label is not None}
    choices = "\n".join(f"    <Choice value={quoteattr(label)}/>" for label in sorted(labels))
    return (
        f'<View>\n  <Image name="{_TO}" value="$image"/>\n'
        f'  <Choices name="{_FROM}" toName="{_TO}">\n{choices}\n  </Choices>\n</View>\n'
    )


def _choice(label: str) -> dict[str, Any]:
    return {"from_name": _FROM, "to_name": _TO, "type": "choices", "value": {"choices": [label]}}
