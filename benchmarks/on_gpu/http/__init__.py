"""The whole service over HTTP on a GPU, with several numbers of workers, under closed loops."""
