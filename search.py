"""Find garments like one, but changed: python search.py --workdir=RUN --item=0 --change=color=red."""

from gradrev_commands.search import main

if __name__ == "__main__":
    main()
