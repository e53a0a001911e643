"""`python -m spectral_edge` is the command line."""

from spectral_edge.cli import main

if __name__ == "__main__":
    main()
