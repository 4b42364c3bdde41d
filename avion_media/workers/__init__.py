"""What the queues' tasks do: each kind a short list of named steps that can be repeated."""
