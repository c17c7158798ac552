"""What Keras lacks, each a registered layer that saves and loads."""
