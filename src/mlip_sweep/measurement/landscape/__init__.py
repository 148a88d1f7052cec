"""The landscape of the training loss around a trained model, and the loss entropy that says how flat it is."""
