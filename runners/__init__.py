"""The models, one file each: a batch of inputs in, typed answers out. Every model runs in processes of its own."""
