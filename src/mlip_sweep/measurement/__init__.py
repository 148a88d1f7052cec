"""What a trained potential is asked: its landscape, its accuracy, its stability in dynamics."""
