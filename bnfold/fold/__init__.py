"""The algebra: per-channel affines, the layers that let them pass, the layers that absorb them."""
