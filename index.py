"""Put a run's gallery into a vector engine: python index.py --workdir=runs/mine --engine=milvus:mine.db."""

from gradrev_commands.index import main

if __name__ == "__main__":
    main()
