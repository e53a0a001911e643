"""The model families of the papers, one module each, and what several of them share."""
