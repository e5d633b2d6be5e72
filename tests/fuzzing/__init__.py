"""Bytes that nobody meant, in great numbers: against the decoder, the form parser and the whole service."""
