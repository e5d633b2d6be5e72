"""The MLP-Mixer and how it learns. Torch lives here; spec.py and preprocess.py do without it."""
