"""One optimizer step, fast: network, optimizer, matrix products, data on the device."""
