"""Train an attribute encoder: python train.py --config=configs/garments.py --workdir=runs/garments."""

from gradrev_commands.train import main

if __name__ == "__main__":
    main()
