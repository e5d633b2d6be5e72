"""app/rpc, over real sockets of this machine."""
