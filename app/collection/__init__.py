"""Pictures that are kept with their answers, for people to correct and for training."""
