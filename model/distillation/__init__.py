"""A small network learns from a large one: varied views of pictures, what the teacher sees in them, and the pupil."""
