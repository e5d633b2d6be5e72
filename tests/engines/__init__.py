"""The engines beyond one machine: Ray, Spark and Daft run here as they are, from an environment of their own."""
