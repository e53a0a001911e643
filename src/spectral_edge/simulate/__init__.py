"""Models of the theory to play with: parameters in, numbers and a picture out."""
