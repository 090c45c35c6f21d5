"""Train the small networks that dvcc ships: the optical-flow network and the distilled students."""
