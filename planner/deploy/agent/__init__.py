"""What runs in a cluster beside the jobs: an agent on every node, and an extender of the scheduler."""
