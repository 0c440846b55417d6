"""`python -m fmbdask` is the command `fmbdask`."""

from fmbdask.cli.app import main

if __name__ == "__main__":
    main()
