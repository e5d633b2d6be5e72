"""Many pictures in one request without an end in sight: each is answered as it is done. HTTP only."""
