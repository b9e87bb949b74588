"""Inter-process calls: typed frames over a private Unix socket carry batches to runners. Independent of models."""
