"""Write a catalogue as an ADDE split directory: python generate_splits.py --config=FILE --out=FOLDER."""

from gradrev_commands.generate_splits import main

if __name__ == "__main__":
    main()
