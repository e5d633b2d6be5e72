"""What a run starts from: a network, its sizes and how it sees pictures, by the options or by the pictures."""
