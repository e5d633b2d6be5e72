"""Other services' ways to ask: each turned into images and a wish, and the answers into its own words."""
