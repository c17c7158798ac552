"""The fifteen image corruptions of CIFAR-10-C."""
