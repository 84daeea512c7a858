"""Pure tensor operations: the readable reference of each formula and its fast versions."""
