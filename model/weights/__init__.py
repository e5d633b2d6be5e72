"""A Mixer's sizes and its tensors as NumPy reads them: no torch."""
