"""Three families of networks, each a function that reads like the figure in its paper."""
