"""The MLP-Mixer and its training. The rooms import torch; the modules beside them, such as spec.py, do not."""
