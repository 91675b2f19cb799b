"""What a network is: a component of a pipeline, its copies, its inputs, its size. No value is changed here."""
