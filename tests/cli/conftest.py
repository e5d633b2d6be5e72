"""The fixtures of the service, for the commands that need one."""

from tests.app.conftest import bundle, engine, grey_bundle, no_options_from_outside, serve

__all__ = ["bundle", "engine", "grey_bundle", "no_options_from_outside", "serve"]
