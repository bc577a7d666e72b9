"""Write a run as a model to share: python export_model.py --workdir=runs/mine --out=model."""

from gradrev_commands.export_model import main

if __name__ == "__main__":
    main()
