"""Replay buffers in the formats of other libraries, and the demo from PhysioNet."""
