"""What can go wrong between a folder of pictures and a published bundle.

MixerError
├── DataError         the pictures or labels cannot be used
├── CheckpointError   a checkpoint folder or foreign weight file cannot be used
├── TrainingError     a training run cannot start or go on
├── TrainingStopped   a training run was told to stop, and has saved where it is
├── FlagError         a flag, or the variable that stands for it, cannot be used
└── ExportError       a graph could not be written, or failed parity (raised by export/)
"""


class MixerError(Exception):
    """Base of everything the user can put right; the command line prints it as one line."""


class DataError(MixerError):
    """The pictures or labels cannot be used."""


class CheckpointError(MixerError):
    """A checkpoint folder or a foreign weight file cannot be used."""


class TrainingError(MixerError):
    """A training run cannot start or go on."""


class TrainingStopped(MixerError):
    """A training run was told to stop, and has saved where it is."""


class ExportError(MixerError):
    """A graph could not be written, or is not equal enough to be published."""


class FlagError(MixerError):
    """A flag, or the variable that stands for it, cannot be used."""
