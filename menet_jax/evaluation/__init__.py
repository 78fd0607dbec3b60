"""What a trained network makes of images, and how good it is (Section IV-D)."""
