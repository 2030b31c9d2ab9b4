"""What cores did, step by step: recorded, simulated, replayed, checked."""
