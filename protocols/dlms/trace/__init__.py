"""Traffic explained: frames, APDUs and conversations as a tree, with secrets masked."""
