"""Serve a run as a page: python serve.py --workdir=runs/garments."""

from gradrev_commands.serve import main

if __name__ == "__main__":
    main()
