"""What Tollkeeper knows: pure, standard library only. No clock, randomness, environment or I/O; they are passed in."""
