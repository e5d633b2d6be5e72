"""The model card of a bundle: README.md for people and model hubs, card.json for programs, and charts."""
