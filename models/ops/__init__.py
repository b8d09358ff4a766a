"""Parameter-free maths."""
