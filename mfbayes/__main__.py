"""`python -m mfbayes`."""

from mfbayes.cli import main

if __name__ == "__main__":
    main()
