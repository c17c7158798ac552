"""Entry point of `python -m cifar_models`."""

import sys

from cifar_models.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
