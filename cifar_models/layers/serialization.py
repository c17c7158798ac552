"""The package name under which every layer is registered with Keras."""

PACKAGE = "cifar_models"
