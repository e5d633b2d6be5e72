"""What a person names -> a file of weights on this machine, and what is known of it beside its tensors.

A name of public weights is fetched; a file, a checkpoint folder or a folder in timm's layout is there. Knows no
tensors.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from model.errors import CheckpointError
from model.hubs import download, hub, names, timm_config
from model.hubs.download import CONFIG_FILE
from model.hubs.names import TIMM_FILE
from model.hubs.remote import Remote
from model.hubs.transfer import Progress


@dataclass(frozen=True)
class Weights:
    """`path`: a file of weights, or a checkpoint folder. `remote`: where it is from; None for a file of one's own."""

    path: Path
    remote: Remote | None = None


def fetch(
    source: str,
    cache: Path | None = None,
    progress: Progress = lambda done, total: None,
    *,
    again: bool = False,
) -> Weights:
    """The weights that `source` names, downloaded unless they are there. `again`: unless the newest are there.

    Raises: CheckpointError, in one line: an unknown name, a repository without a Mixer, and all that fetching raises.
    """
    remote = names.find(source)
    if remote is None:
        return _local(Path(source))
    if remote.has_config:
        remote = _described(remote, cache, again=again)
    try:
        return Weights(download.fetch(remote, cache, progress, again=again), remote)
    except hub.NoSuchFile as error:
        raise CheckpointError(f"{error} Expected a Mixer's weights in that file.") from error


def is_timm_folder(path: Path) -> bool:
    """Whether a folder is one that timm loads as local-dir. Raises CheckpointError for a config.json of nobody's."""
    config = path / CONFIG_FILE
    return config.is_file() and (path / TIMM_FILE).is_file() and timm_config.is_timms(config)


def _local(path: Path) -> Weights:
    if not is_timm_folder(path):
        return Weights(path)
    config = path / CONFIG_FILE
    remote = Remote(str(path / TIMM_FILE), f"{path.resolve().name}.safetensors")
    return Weights(path / TIMM_FILE, timm_config.described(remote, timm_config.read(config), str(config)))


def _described(remote: Remote, cache: Path | None, *, again: bool) -> Remote:
    """What the repository's config.json says; and the weights of the commit that it is of."""
    try:
        path = download.fetch(remote, cache, filename=CONFIG_FILE, again=again)
    except hub.NoSuchFile as error:
        raise CheckpointError(f"{error} Expected a repository in timm's layout.") from error
    where = f"{CONFIG_FILE} of {remote.repository}"
    known = timm_config.described(remote, timm_config.read(path), where)
    return replace(known, revision=_commit_of(path) or remote.revision)


def _commit_of(path: Path) -> str | None:
    """The commit that a file in the hub's cache is of."""
    return path.parent.name if path.parent.parent.name == "snapshots" else None
