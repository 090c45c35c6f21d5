"""Every network, and where its weights come from: `zoo` lists them, `build` makes them, one file for every architecture."""
