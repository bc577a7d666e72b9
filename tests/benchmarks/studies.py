"""The command line of a tiny study, for the tests of the scripts that train several runs."""

FIELDS = {
    "data.count": 150,
    "data.test_fraction": 0.4,
    "model.feature_dim": 4,
    "train.batch_size": 8,
    "train.epochs": 1,
}


def study_options(folder, *arguments, **fields):
    """Returns the options of a study on drawn garments, with more of them and more config fields."""
    return [
        "--config=garments",
        "--name=tiny",
        f"--runs={folder / 'runs'}",
        f"--results={folder / 'results'}",
        *arguments,
        "--set",
        *(f"{name}={value}" for name, value in {**FIELDS, **fields}.items()),
    ]
