"""Open-loop load: requests that arrive at their own times, whatever is outstanding, at multiples of the capacity."""
