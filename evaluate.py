"""Evaluate a run: python evaluate.py --workdir=runs/garments."""

from gradrev_commands.evaluate import main

if __name__ == "__main__":
    main()
