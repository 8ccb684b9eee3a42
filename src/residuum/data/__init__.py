"""Data: images and labels from whatever file the user has, split, normalised, augmented and put into batches."""
