"""Keras layers and initializers that Keras itself does not provide; every layer is registered."""
