"""Pictures changed as a camera, the weather, a file format or a hand would: uint8 [n, H, W, C] in, the same out."""
