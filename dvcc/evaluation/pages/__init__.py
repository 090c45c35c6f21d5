"""Pages of results: one HTML file each, which needs nothing beside it and nothing from outside."""
