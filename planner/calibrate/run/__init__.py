"""Short, repeated, randomised measurements of one host and its devices; torch is the only tool."""
